import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.connect.connector.ConnectRecord;
import org.apache.kafka.connect.data.Date;
import org.apache.kafka.connect.data.Decimal;
import org.apache.kafka.connect.data.Field;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.data.Time;
import org.apache.kafka.connect.data.Timestamp;
import org.apache.kafka.connect.header.ConnectHeaders;
import org.apache.kafka.connect.header.Header;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.storage.HeaderConverter;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.transforms.Transformation;
import org.apache.kafka.connect.transforms.predicates.Predicate;

/**
 * Runs transforms and predicates of Kafka Connect over given records: the reference that headrace's are compared with.
 *
 * <p>stdin: one JSON case a line ({"class", "config", "predicate", "predicateConfig", "negate", "record"}). stdout: for
 * each the answer: the record, "DROPPED", true or false of a predicate alone, or {"error", "phase"}. Values are JSON, or
 * an object with one key that names the Java class. A case of a header converter is {"headerConverter", "config",
 * "read": base64} with the answer {"schema", "value"}, or "write": {"schema", "value"} with the answer {"bytes"}.
 */
public final class Transforms {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final JsonNodeFactory NODES = JsonNodeFactory.instance;
  private static final SimpleHeaderConverter HEADERS = new SimpleHeaderConverter();

  public static void main(String[] arguments) throws Exception {
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
    System.setOut(System.err); // some transforms log there
    for (String line; (line = in.readLine()) != null; ) {
      JsonNode given = MAPPER.readTree(line);
      JsonNode answer = given.has("headerConverter") ? converted(given) : answer(given);
      out.println(MAPPER.writeValueAsString(answer));
    }
    out.flush();
  }

  @SuppressWarnings({"unchecked", "rawtypes"})
  private static JsonNode answer(JsonNode given) {
    String phase = "record";
    try {
      ConnectRecord record = record(given.get("record"));
      phase = "configure";
      Predicate predicate = null;
      if (given.has("predicate")) {
        predicate = (Predicate) create("predicates." + given.get("predicate").asText());
        predicate.configure(configuration(given.get("predicateConfig")));
      }
      Transformation transform = null;
      if (given.has("class")) {
        transform = (Transformation) create(given.get("class").asText());
        transform.configure(configuration(given.get("config")));
      }
      phase = "apply";
      if (transform == null) {
        return NODES.booleanNode(predicate.test(record));
      }
      boolean applies = predicate == null || (given.path("negate").asBoolean() ^ predicate.test(record));
      return written(applies ? transform.apply(record) : record);
    } catch (Throwable error) {
      ObjectNode node = NODES.objectNode();
      node.put("error", error.getClass().getSimpleName()).put("phase", phase).put("message", error.getMessage());
      return node;
    }
  }

  private static JsonNode converted(JsonNode given) {
    String phase = "configure";
    try {
      Object made = Class.forName(given.get("headerConverter").asText()).getDeclaredConstructor().newInstance();
      HeaderConverter converter = (HeaderConverter) made;
      Map<String, Object> configuration = configuration(given.get("config"));
      configuration.put("converter.type", "header");
      converter.configure(configuration);
      phase = "convert";
      ObjectNode node = NODES.objectNode();
      if (given.has("read")) {
        byte[] bytes = given.get("read").isNull() ? null : Base64.getDecoder().decode(given.get("read").asText());
        // A task adds the value by this method, which accepts null.
        Header read = new ConnectHeaders().add("h", converter.toConnectHeader("t", "h", bytes)).lastWithName("h");
        node.set("schema", written(read.schema()));
        node.set("value", written(read.value()));
        return node;
      }
      Schema schema = schema(given.get("write").get("schema"));
      byte[] bytes = converter.fromConnectHeader("t", "h", schema, value(given.get("write").get("value"), schema));
      node.set("bytes", bytes == null ? NODES.nullNode() : NODES.textNode(Base64.getEncoder().encodeToString(bytes)));
      return node;
    } catch (Throwable error) {
      ObjectNode node = NODES.objectNode();
      node.put("error", error.getClass().getSimpleName()).put("phase", phase).put("message", error.getMessage());
      return node;
    }
  }

  private static Object create(String name) throws Exception {
    String full = name.startsWith("io.") ? name : "org.apache.kafka.connect.transforms." + name;
    return Class.forName(full).getDeclaredConstructor().newInstance();
  }

  private static Map<String, Object> configuration(JsonNode given) {
    Map<String, Object> made = new HashMap<>();
    if (given != null) {
      given.fields().forEachRemaining(entry -> made.put(entry.getKey(), entry.getValue().asText()));
    }
    return made;
  }

  // Schemas: "int32", "int32?" (optional), "date", "time", "timestamp", "decimal(2)", or an object.

  private static Schema schema(JsonNode given) {
    if (given == null || given.isNull()) {
      return null;
    }
    if (given.isTextual()) {
      String name = given.asText();
      boolean optional = name.endsWith("?");
      SchemaBuilder builder = named(optional ? name.substring(0, name.length() - 1) : name);
      return (optional ? builder.optional() : builder).build();
    }
    SchemaBuilder builder;
    switch (given.get("type").asText()) {
      case "struct":
        builder = SchemaBuilder.struct();
        SchemaBuilder struct = builder;
        given.get("fields").fields().forEachRemaining(field -> struct.field(field.getKey(), schema(field.getValue())));
        break;
      case "array":
        builder = SchemaBuilder.array(schema(given.get("items")));
        break;
      case "map":
        builder = SchemaBuilder.map(schema(given.get("keys")), schema(given.get("values")));
        break;
      default:
        builder = named(given.get("type").asText());
    }
    if (given.path("optional").asBoolean()) {
      builder.optional();
    }
    if (given.has("name")) {
      builder.name(given.get("name").asText());
    }
    if (given.has("version")) {
      builder.version(given.get("version").asInt());
    }
    if (given.has("doc")) {
      builder.doc(given.get("doc").asText());
    }
    given.path("params").fields().forEachRemaining(item -> builder.parameter(item.getKey(), item.getValue().asText()));
    if (given.has("default")) {
      builder.defaultValue(value(given.get("default"), builder));
    }
    return builder.build();
  }

  private static SchemaBuilder named(String name) {
    switch (name) {
      case "date":
        return Date.builder();
      case "time":
        return Time.builder();
      case "timestamp":
        return Timestamp.builder();
      default:
        if (name.startsWith("decimal(")) {
          return Decimal.builder(Integer.parseInt(name.substring(8, name.length() - 1)));
        }
        return SchemaBuilder.type(Schema.Type.valueOf(name.toUpperCase()));
    }
  }

  private static JsonNode written(Schema schema) {
    if (schema == null) {
      return null;
    }
    ObjectNode node = NODES.objectNode();
    node.put("type", schema.type().getName());
    if (schema.type() == Schema.Type.STRUCT) {
      ObjectNode fields = node.putObject("fields");
      schema.fields().forEach(field -> fields.set(field.name(), written(field.schema())));
    }
    if (schema.type() == Schema.Type.ARRAY) {
      node.set("items", written(schema.valueSchema()));
    }
    if (schema.type() == Schema.Type.MAP) {
      node.set("keys", written(schema.keySchema()));
      node.set("values", written(schema.valueSchema()));
    }
    if (schema.isOptional()) {
      node.put("optional", true);
    }
    if (schema.name() != null) {
      node.put("name", schema.name());
    }
    if (schema.version() != null) {
      node.put("version", schema.version());
    }
    if (schema.doc() != null) {
      node.put("doc", schema.doc());
    }
    if (schema.defaultValue() != null) {
      node.set("default", written(schema.defaultValue()));
    }
    if (schema.parameters() != null && !schema.parameters().isEmpty()) {
      node.set("params", MAPPER.valueToTree(schema.parameters()));
    }
    if (node.size() == 1) {
      return NODES.textNode(schema.type().getName());
    }
    return node.size() == 2 && node.has("optional") ? NODES.textNode(schema.type().getName() + "?") : node;
  }

  // Values: JSON, or {"Integer": 1}, {"bytes": base64}, {"Date": milliseconds}, {"BigDecimal": "1.2"}, ...

  private static Object value(JsonNode given, Schema schema) {
    if (given == null || given.isNull()) {
      return null;
    }
    if (given.isObject() && given.size() == 1) {
      Object tagged = tagged(given.fieldNames().next(), given.elements().next());
      if (tagged != null) {
        return tagged;
      }
    }
    Schema.Type type = schema == null ? null : schema.type();
    if (given.isObject() && type == Schema.Type.STRUCT) {
      Struct struct = new Struct(schema);
      given
          .fields()
          .forEachRemaining(
              field -> {
                Field described = schema.field(field.getKey());
                struct.put(field.getKey(), value(field.getValue(), described == null ? null : described.schema()));
              });
      return struct;
    }
    if (given.isObject()) {
      Map<String, Object> map = new LinkedHashMap<>();
      Schema items = type == Schema.Type.MAP ? schema.valueSchema() : null;
      given.fields().forEachRemaining(field -> map.put(field.getKey(), value(field.getValue(), items)));
      return map;
    }
    if (given.isArray()) {
      List<Object> list = new ArrayList<>();
      given.forEach(item -> list.add(value(item, type == Schema.Type.ARRAY ? schema.valueSchema() : null)));
      return list;
    }
    if (given.isBoolean()) {
      return given.asBoolean();
    }
    if (given.isTextual()) {
      return given.asText();
    }
    if (type != null) {
      switch (type) {
        case INT8:
          return (byte) given.asInt();
        case INT16:
          return (short) given.asInt();
        case INT32:
          return given.asInt();
        case FLOAT32:
          return (float) given.asDouble();
        case FLOAT64:
          return given.asDouble();
        default:
      }
    }
    return given.isIntegralNumber() ? (Object) given.asLong() : (Object) given.asDouble();
  }

  private static Object tagged(String kind, JsonNode given) {
    switch (kind) {
      case "Byte":
        return (byte) given.asInt();
      case "Short":
        return (short) given.asInt();
      case "Integer":
        return given.asInt();
      case "Long":
        return given.asLong();
      case "Float":
        return Float.parseFloat(given.asText());
      case "Double":
        return Double.parseDouble(given.asText());
      case "bytes":
        return Base64.getDecoder().decode(given.asText());
      case "ByteBuffer":
        return ByteBuffer.wrap(Base64.getDecoder().decode(given.asText()));
      case "Date":
        return new java.util.Date(given.asLong());
      case "BigDecimal":
        return new BigDecimal(given.asText());
      case "BigInteger":
        return new BigInteger(given.asText());
      case "Map":
        Map<Object, Object> map = new LinkedHashMap<>();
        given.forEach(entry -> map.put(value(entry.get(0), null), value(entry.get(1), null)));
        return map;
      default:
        return null;
    }
  }

  private static JsonNode written(Object value) {
    if (value == null) {
      return NODES.nullNode();
    }
    if (value instanceof String) {
      return NODES.textNode((String) value);
    }
    if (value instanceof Boolean) {
      return NODES.booleanNode((Boolean) value);
    }
    if (value instanceof Float
        || value instanceof Double
        || value instanceof BigDecimal
        || value instanceof BigInteger) {
      return tag(value.getClass().getSimpleName(), NODES.textNode(value.toString()));
    }
    if (value instanceof Number) {
      return tag(value.getClass().getSimpleName(), NODES.numberNode(((Number) value).longValue()));
    }
    if (value instanceof byte[]) {
      return tag("bytes", NODES.textNode(Base64.getEncoder().encodeToString((byte[]) value)));
    }
    if (value instanceof ByteBuffer) {
      ByteBuffer buffer = ((ByteBuffer) value).duplicate();
      byte[] bytes = new byte[buffer.remaining()];
      buffer.get(bytes);
      return tag("bytes", NODES.textNode(Base64.getEncoder().encodeToString(bytes)));
    }
    if (value instanceof java.util.Date) {
      return tag("Date", NODES.numberNode(((java.util.Date) value).getTime()));
    }
    if (value instanceof List) {
      ArrayNode array = NODES.arrayNode();
      ((List<?>) value).forEach(item -> array.add(written(item)));
      return array;
    }
    if (value instanceof Map) {
      ArrayNode entries = NODES.arrayNode();
      ((Map<?, ?>) value)
          .entrySet().stream()
              .sorted(Comparator.comparing(entry -> String.valueOf(entry.getKey())))
              .forEach(entry -> entries.addArray().add(written(entry.getKey())).add(written(entry.getValue())));
      return tag("Map", entries);
    }
    if (value instanceof Struct) {
      Struct struct = (Struct) value;
      ObjectNode fields = NODES.objectNode();
      for (Field field : struct.schema().fields()) {
        fields.set(field.name(), written(struct.getWithoutDefault(field.name())));
      }
      return tag("Struct", fields);
    }
    throw new IllegalArgumentException(value.getClass().getName());
  }

  private static ObjectNode tag(String kind, JsonNode value) {
    ObjectNode node = NODES.objectNode();
    node.set(kind, value);
    return node;
  }

  private static ConnectRecord<?> record(JsonNode given) {
    Schema keySchema = schema(given.get("keySchema"));
    Schema valueSchema = schema(given.get("valueSchema"));
    Object key = value(given.get("key"), keySchema);
    Object value = value(given.get("value"), valueSchema);
    Long timestamp = given.has("timestamp") ? null : (Long) 1700000000123L;
    if (given.hasNonNull("timestamp")) {
      timestamp = given.get("timestamp").asLong();
    }
    String topic = given.path("topic").asText("t");
    ConnectHeaders headers = new ConnectHeaders();
    for (JsonNode header : given.path("headers")) {
      Schema schema = schema(header.get(1));
      headers.add(header.get(0).asText(), new SchemaAndValue(schema, value(header.get(2), schema)));
    }
    if (given.path("kind").asText().equals("source")) {
      return new SourceRecord(
          Map.of("p", 1), Map.of("o", 2), topic, null, keySchema, key, valueSchema, value, timestamp, headers);
    }
    int partition = given.path("partition").asInt(0);
    return new SinkRecord(
        topic, partition, keySchema, key, valueSchema, value, 42, timestamp, TimestampType.CREATE_TIME, headers);
  }

  private static JsonNode written(ConnectRecord<?> record) {
    if (record == null) {
      return NODES.textNode("DROPPED");
    }
    ObjectNode node = NODES.objectNode();
    node.put("topic", record.topic()).put("timestamp", record.timestamp());
    node.set("keySchema", written(record.keySchema()));
    node.set("key", written(record.key()));
    node.set("valueSchema", written(record.valueSchema()));
    node.set("value", written(record.value()));
    ArrayNode headers = node.putArray("headers");
    for (Header header : record.headers()) {
      byte[] bytes = HEADERS.fromConnectHeader(record.topic(), header.key(), header.schema(), header.value());
      headers.addArray().add(header.key()).add(bytes == null ? null : new String(bytes, StandardCharsets.UTF_8));
    }
    return node;
  }

  private Transforms() {}
}
