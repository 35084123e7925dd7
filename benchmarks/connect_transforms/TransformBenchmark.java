import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.transforms.Transformation;

/**
 * The time that transforms of Kafka Connect take for a record.
 *
 * <p>stdin: one JSON object a line, {"class", "config", "value"}. stdout: for each the microseconds per record, without and
 * with a schema: the best of the rounds of one second.
 */
public final class TransformBenchmark {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final int RECORDS = 100_000;
  private static final long DURATION = 1_000_000_000L;
  private static Object sink;

  public static void main(String[] arguments) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = in.readLine()) != null; ) {
      JsonNode given = MAPPER.readTree(line);
      Struct struct = struct(given.get("value"));
      System.out.println(
          cost(given, null, map(given.get("value"))) + " " + cost(given, struct.schema(), struct));
    }
    if (sink == null) {
      throw new IllegalStateException("no transform has returned a record");
    }
  }

  @SuppressWarnings("unchecked")
  private static double cost(JsonNode given, Schema schema, Object value) throws Exception {
    Class<?> type = Class.forName("org.apache.kafka.connect.transforms." + given.get("class").asText());
    Transformation<SinkRecord> transform =
        (Transformation<SinkRecord>) type.getDeclaredConstructor().newInstance();
    Map<String, Object> config = new HashMap<>();
    given.get("config").fields().forEachRemaining(item -> config.put(item.getKey(), item.getValue().asText()));
    transform.configure(config);
    SinkRecord record =
        new SinkRecord(
            "orders", 0, null, "4711", schema, value, 42, 1700000000000L, TimestampType.CREATE_TIME, null);
    double best = Double.MAX_VALUE;
    long end = System.nanoTime() + DURATION;
    while (System.nanoTime() < end) {
      long start = System.nanoTime();
      for (int count = 0; count < RECORDS; count++) {
        // A new record each time: some transforms add headers to the one that they are given.
        sink = transform.apply(record.newRecord("orders", 0, null, "4711", schema, value, 1700000000000L));
      }
      best = Math.min(best, System.nanoTime() - start);
    }
    transform.close();
    return best / RECORDS / 1000;
  }

  private static Map<String, Object> map(JsonNode given) {
    Map<String, Object> made = new LinkedHashMap<>();
    given.fields().forEachRemaining(item -> made.put(item.getKey(), plain(item.getValue())));
    return made;
  }

  private static Object plain(JsonNode given) {
    if (given.isObject()) {
      return map(given);
    }
    if (given.isIntegralNumber()) {
      return given.asLong();
    }
    return given.isNumber() ? (Object) given.asDouble() : given.asText();
  }

  private static Struct struct(JsonNode given) {
    SchemaBuilder builder = SchemaBuilder.struct();
    Map<String, Object> values = new LinkedHashMap<>();
    given
        .fields()
        .forEachRemaining(
            item -> {
              Object value = item.getValue().isObject() ? struct(item.getValue()) : plain(item.getValue());
              values.put(item.getKey(), value);
              builder.field(item.getKey(), schema(value));
            });
    Struct made = new Struct(builder.build());
    values.forEach(made::put);
    return made;
  }

  private static Schema schema(Object value) {
    if (value instanceof Struct) {
      return ((Struct) value).schema();
    }
    if (value instanceof Long) {
      return Schema.INT64_SCHEMA;
    }
    return value instanceof Double ? Schema.FLOAT64_SCHEMA : Schema.STRING_SCHEMA;
  }

  private TransformBenchmark() {}
}
