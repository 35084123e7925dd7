import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.confluent.connect.avro.AvroData;
import io.confluent.connect.avro.AvroDataConfig;
import io.confluent.connect.json.JsonSchemaData;
import io.confluent.connect.json.JsonSchemaDataConfig;
import io.confluent.connect.protobuf.ProtobufData;
import io.confluent.connect.protobuf.ProtobufDataConfig;
import io.confluent.kafka.schemaregistry.json.JsonSchema;
import io.confluent.kafka.schemaregistry.protobuf.ProtobufSchema;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.json.JsonConverter;

/**
 * Translates schemas as Confluent's converters do: the reference that headrace's are compared with.
 *
 * <p>stdin: one JSON case a line ({"format", "config", "connect"} with a schema as JsonConverter writes it, or {"format",
 * "config", "text"}). stdout: for each {"text"} or {"connect"}, or {"error"} with the class of the exception.
 */
public final class ConverterSchemas {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final JsonConverter SCHEMAS = new JsonConverter();

  public static void main(String[] arguments) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(System.err); // libraries log there
    SCHEMAS.configure(Map.of("schemas.enable", "true"), false);
    for (String line; (line = in.readLine()) != null; ) {
      out.println(MAPPER.writeValueAsString(answer(MAPPER.readTree(line))));
    }
    out.flush();
  }

  private static ObjectNode answer(JsonNode given) {
    ObjectNode answer = MAPPER.createObjectNode();
    Map<String, Object> config = new HashMap<>();
    given.get("config").fields().forEachRemaining(entry -> config.put(entry.getKey(), entry.getValue().asText()));
    try {
      String format = given.get("format").asText();
      if (given.has("connect")) {
        answer.put("text", written(format, config, SCHEMAS.asConnectSchema(given.get("connect"))));
      } else {
        answer.set("connect", SCHEMAS.asJsonSchema(read(format, config, given.get("text").asText())));
      }
    } catch (Exception | LinkageError | StackOverflowError error) {
      answer.put("error", error.getClass().getSimpleName());
    }
    return answer;
  }

  private static String written(String format, Map<String, Object> config, Schema schema) {
    switch (format) {
      case "avro":
        return new AvroData(new AvroDataConfig(config)).fromConnectSchema(schema).toString();
      case "json":
        return new JsonSchemaData(new JsonSchemaDataConfig(config)).fromConnectSchema(schema).canonicalString();
      default:
        return new ProtobufData(new ProtobufDataConfig(config)).fromConnectSchema(schema).canonicalString();
    }
  }

  private static Schema read(String format, Map<String, Object> config, String text) {
    switch (format) {
      case "avro":
        return new AvroData(new AvroDataConfig(config))
            .toConnectSchema(new org.apache.avro.Schema.Parser().parse(text));
      case "json":
        return new JsonSchemaData(new JsonSchemaDataConfig(config)).toConnectSchema(new JsonSchema(text));
      default:
        return new ProtobufData(new ProtobufDataConfig(config)).toConnectSchema(new ProtobufSchema(text));
    }
  }
}
