import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.Supplier;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaBuilder;
import org.apache.kafka.connect.data.Struct;
import org.apache.kafka.connect.json.JsonConverter;

/**
 * The CPU time that Kafka Connect's JsonConverter with schemas takes for a record.
 *
 * <p>stdin: a JSON object. stdout: the microseconds to write and to read it: the best of the rounds of three seconds.
 */
public final class ConverterBenchmark {
  private static final int RECORDS = 20_000;
  private static final long DURATION = 3_000_000_000L;
  private static final ThreadMXBean THREADS = ManagementFactory.getThreadMXBean();
  private static Object sink;

  public static void main(String[] arguments) throws Exception {
    Struct struct = struct(new ObjectMapper().readTree(System.in));
    JsonConverter converter = new JsonConverter();
    converter.configure(Map.of("schemas.enable", "true"), false);
    byte[] written = converter.fromConnectData("orders", struct.schema(), struct);
    double writes = cost(() -> converter.fromConnectData("orders", struct.schema(), struct));
    double reads = cost(() -> converter.toConnectData("orders", written));
    System.out.println(writes + " " + reads);
    if (sink == null) {
      throw new IllegalStateException("the converter has returned nothing");
    }
  }

  private static double cost(Supplier<Object> convert) {
    double best = Double.MAX_VALUE;
    long end = System.nanoTime() + DURATION;
    while (System.nanoTime() < end) {
      long start = THREADS.getCurrentThreadCpuTime();
      for (int count = 0; count < RECORDS; count++) {
        sink = convert.get();
      }
      best = Math.min(best, THREADS.getCurrentThreadCpuTime() - start);
    }
    return best / RECORDS / 1000;
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

  private static Object plain(JsonNode given) {
    if (given.isIntegralNumber()) {
      return given.asLong();
    }
    return given.isNumber() ? (Object) given.asDouble() : given.asText();
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

  private ConverterBenchmark() {}
}
