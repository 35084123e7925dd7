import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Files;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TestOutputTopic;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.SlidingWindows;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.test.TestRecord;

/**
 * Runs topologies of Kafka Streams over given records: the reference that headrace's operators are compared with.
 *
 * <p>stdin: a JSON array of cases, each {"topology", "parameters", "records": [[topic, partition, key, value, time]]}.
 * stdout: for each case {"outputs": [[topic, partition, key, value, time]], "dropped": n}. A TopologyTestDriver is one
 * task, so each partition has a driver of its own; records of topics in parameters.broadcast go to all of them.
 */
public final class Reference {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Serde<String> KEY = Serdes.String();
  private static final Json VALUE = new Json();

  /** Any JSON; null is a null value. */
  private static final class Json implements Serde<JsonNode>, Serializer<JsonNode>, Deserializer<JsonNode> {
    @Override
    public byte[] serialize(String topic, JsonNode node) {
      try {
        return node == null ? null : MAPPER.writeValueAsBytes(node);
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }

    @Override
    public JsonNode deserialize(String topic, byte[] bytes) {
      try {
        return bytes == null ? null : MAPPER.readTree(bytes);
      } catch (Exception error) {
        throw new IllegalStateException(error);
      }
    }

    @Override
    public Serializer<JsonNode> serializer() {
      return this;
    }

    @Override
    public Deserializer<JsonNode> deserializer() {
      return this;
    }

    @Override
    public void configure(Map<String, ?> configs, boolean isKey) {}

    @Override
    public void close() {}
  }

  public static void main(String[] arguments) throws Exception {
    ArrayNode results = MAPPER.createArrayNode();
    for (JsonNode item : MAPPER.readTree(System.in)) {
      results.add(run(item));
    }
    System.out.println(MAPPER.writeValueAsString(results));
  }

  private static ObjectNode run(JsonNode given) throws Exception {
    JsonNode parameters = given.get("parameters");
    List<String> broadcast = new ArrayList<>();
    parameters.path("broadcast").forEach(topic -> broadcast.add(topic.asText()));
    TreeSet<Integer> partitions = new TreeSet<>();
    given.get("records").forEach(record -> partitions.add(record.get(1).asInt()));
    ObjectNode result = MAPPER.createObjectNode();
    ArrayNode outputs = result.putArray("outputs");
    double dropped = 0;
    for (int partition : partitions) {
      try (TopologyTestDriver driver = driver(topology(given.get("topology").asText(), parameters))) {
        Map<String, TestInputTopic<String, JsonNode>> inputs = new HashMap<>();
        for (JsonNode record : given.get("records")) {
          String topic = record.get(0).asText();
          if (record.get(1).asInt() == partition || broadcast.contains(topic)) {
            inputs
                .computeIfAbsent(topic, name -> driver.createInputTopic(name, KEY.serializer(), VALUE))
                .pipeInput(record(record));
          }
        }
        for (String topic : new TreeSet<>(driver.producedTopicNames())) {
          if (topic.startsWith("out")) {
            TestOutputTopic<String, JsonNode> output = driver.createOutputTopic(topic, KEY.deserializer(), VALUE);
            for (TestRecord<String, JsonNode> record : output.readRecordsToList()) {
              ArrayNode row = outputs.addArray().add(topic).add(partition).add(record.key());
              row.add(record.value()).add(record.timestamp());
            }
          }
        }
        dropped +=
            driver.metrics().entrySet().stream()
                .filter(metric -> metric.getKey().name().equals("dropped-records-total"))
                .mapToDouble(metric -> (Double) metric.getValue().metricValue())
                .sum();
      }
    }
    return result.put("dropped", (long) dropped);
  }

  private static TestRecord<String, JsonNode> record(JsonNode given) {
    String key = given.get(2).isNull() ? null : given.get(2).asText();
    JsonNode value = given.get(3).isNull() ? null : given.get(3);
    return new TestRecord<>(key, value, new RecordHeaders(), given.get(4).asLong());
  }

  private static TopologyTestDriver driver(Topology topology) throws Exception {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, "reference");
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "unused:9092");
    settings.put(StreamsConfig.STATE_DIR_CONFIG, Files.createTempDirectory("reference").toString());
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
    return new TopologyTestDriver(topology, settings, Instant.EPOCH);
  }

  private static Topology topology(String name, JsonNode parameters) {
    StreamsBuilder builder = new StreamsBuilder();
    switch (name) {
      case "table_join" -> tableJoin(builder);
      case "global_table_join" -> globalTableJoin(builder);
      case "time_window" -> timeWindow(builder, parameters);
      case "sliding_window" -> slidingWindow(builder, parameters);
      case "session_window" -> sessionWindow(builder, parameters);
      case "interval_join" -> intervalJoin(builder, parameters);
      default -> throw new IllegalArgumentException(name);
    }
    return builder.build();
  }

  private static void tableJoin(StreamsBuilder builder) {
    KTable<String, JsonNode> table = builder.table("table", Consumed.with(KEY, VALUE));
    KStream<String, JsonNode> stream = builder.stream("stream", Consumed.with(KEY, VALUE));
    Joined<String, JsonNode, JsonNode> joined = Joined.with(KEY, VALUE, VALUE);
    write(stream.join(table, (value, row) -> pair(value, "row", row, "version"), joined), "out-inner");
    write(stream.leftJoin(table, (value, row) -> pair(value, "row", row, "version"), joined), "out-left");
  }

  private static void globalTableJoin(StreamsBuilder builder) {
    GlobalKTable<String, JsonNode> table = builder.globalTable("table", Consumed.with(KEY, VALUE));
    KStream<String, JsonNode> stream = builder.stream("stream", Consumed.with(KEY, VALUE));
    write(stream.join(table, (key, value) -> reference(value), (value, row) -> pair(value, "row", row, "version")), "out-inner");
    write(stream.leftJoin(table, (key, value) -> reference(value), (value, row) -> pair(value, "row", row, "version")), "out-left");
  }

  private static String reference(JsonNode value) {
    return value == null || !value.hasNonNull("ref") ? null : value.get("ref").asText();
  }

  /** Windows count records with a null value; headrace drops these before the first step. */
  private static KGroupedStream<String, JsonNode> grouped(StreamsBuilder builder, JsonNode parameters) {
    KStream<String, JsonNode> stream = builder.stream("stream", Consumed.with(KEY, VALUE));
    boolean nulls = parameters.path("nulls").asBoolean();
    return stream.filter((key, value) -> nulls || value != null).groupByKey(Grouped.with(KEY, VALUE));
  }

  private static void timeWindow(StreamsBuilder builder, JsonNode parameters) {
    TimeWindows windows =
        TimeWindows.ofSizeAndGrace(duration(parameters, "size"), duration(parameters, "grace"))
            .advanceBy(duration(parameters, "advance"));
    KTable<Windowed<String>, JsonNode> counted =
        grouped(builder, parameters).windowedBy(windows)
            .aggregate(Reference::none, (key, value, sums) -> add(sums, value), Materialized.with(KEY, VALUE));
    writeWindows(counted, "out-change");
    writeWindows(counted.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded())), "out-close");
  }

  private static void slidingWindow(StreamsBuilder builder, JsonNode parameters) {
    SlidingWindows windows =
        SlidingWindows.ofTimeDifferenceAndGrace(duration(parameters, "difference"), duration(parameters, "grace"));
    KTable<Windowed<String>, JsonNode> counted =
        grouped(builder, parameters).windowedBy(windows)
            .aggregate(Reference::none, (key, value, sums) -> add(sums, value), Materialized.with(KEY, VALUE));
    writeWindows(counted.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded())), "out-close");
  }

  private static void sessionWindow(StreamsBuilder builder, JsonNode parameters) {
    SessionWindows windows =
        SessionWindows.ofInactivityGapAndGrace(duration(parameters, "gap"), duration(parameters, "grace"));
    KTable<Windowed<String>, JsonNode> counted =
        grouped(builder, parameters).windowedBy(windows)
            .aggregate(
                Reference::none,
                (key, value, sums) -> add(sums, value),
                (key, left, right) -> merged(left, right),
                Materialized.with(KEY, VALUE));
    writeWindows(counted.suppress(Suppressed.untilWindowCloses(Suppressed.BufferConfig.unbounded())), "out-close");
  }

  private static void intervalJoin(StreamsBuilder builder, JsonNode parameters) {
    KStream<String, JsonNode> left = builder.stream("left", Consumed.with(KEY, VALUE));
    KStream<String, JsonNode> right = builder.stream("right", Consumed.with(KEY, VALUE));
    JoinWindows windows =
        JoinWindows.ofTimeDifferenceAndGrace(duration(parameters, "after"), duration(parameters, "grace"))
            .before(duration(parameters, "before"));
    StreamJoined<String, JsonNode, JsonNode> joined = StreamJoined.with(KEY, VALUE, VALUE);
    write(left.join(right, (value, other) -> pair(value, "right", other, "id"), windows, joined), "out-inner");
    write(left.leftJoin(right, (value, other) -> pair(value, "right", other, "id"), windows, joined), "out-left");
  }

  private static Duration duration(JsonNode parameters, String name) {
    return Duration.ofMillis(parameters.get(name).asLong());
  }

  private static void write(KStream<String, JsonNode> stream, String topic) {
    stream.to(topic, Produced.with(KEY, VALUE));
  }

  /** One record for each result, with its window; suppressed deletions have none. */
  private static void writeWindows(KTable<Windowed<String>, JsonNode> results, String topic) {
    KStream<String, JsonNode> records =
        results.toStream()
            .filter((window, sums) -> sums != null)
            .map(
                (window, sums) -> {
                  ObjectNode value = MAPPER.createObjectNode().put("k", window.key());
                  value.put("window_start", window.window().start()).put("window_end", window.window().end());
                  value.put("records", sums.get("records").asLong());
                  value.set("total", sums.get("total"));
                  if (sums.get("numbers").asLong() == 0) {
                    value.putNull("mean");
                  } else {
                    value.put("mean", (double) sums.get("total").asLong() / sums.get("numbers").asLong());
                  }
                  return org.apache.kafka.streams.KeyValue.pair(window.key(), (JsonNode) value);
                });
    write(records, topic);
  }

  /** The number of the record, and a column of what it was joined with. */
  private static JsonNode pair(JsonNode value, String name, JsonNode other, String column) {
    ObjectNode made = MAPPER.createObjectNode();
    made.set("id", value.get("id"));
    made.set(name, other == null ? null : other.get(column));
    return made;
  }

  // count(*), count(amount) and sum(amount) as in SQL: a null amount is not added, and a sum of none is null.

  private static JsonNode none() {
    return MAPPER.createObjectNode().put("records", 0).put("numbers", 0).putNull("total");
  }

  private static JsonNode add(JsonNode sums, JsonNode value) {
    ObjectNode one = MAPPER.createObjectNode().put("records", 1);
    if (value != null && value.hasNonNull("amount")) {
      one.put("numbers", 1).put("total", value.get("amount").asLong());
    } else {
      one.put("numbers", 0).putNull("total");
    }
    return merged(sums, one);
  }

  private static JsonNode merged(JsonNode left, JsonNode right) {
    ObjectNode made = MAPPER.createObjectNode();
    for (String name : List.of("records", "numbers")) {
      made.put(name, left.get(name).asLong() + right.get(name).asLong());
    }
    if (left.hasNonNull("total") || right.hasNonNull("total")) {
      made.put("total", left.get("total").asLong() + right.get("total").asLong());
    } else {
      made.putNull("total");
    }
    return made;
  }

  private Reference() {}
}
