import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Deserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.Serializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TopologyConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.GlobalKTable;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;

/** Arguments: bootstrap servers, application, topology, views, clicks, offers, output, and settings as name=value. */
public final class StreamBenchmark {
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Serde<String> KEY = Serdes.String();
  private static final Json VALUE = new Json();

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

  public static void main(String[] arguments) throws InterruptedException {
    Properties settings = new Properties();
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1]);
    settings.put("auto.offset.reset", "earliest");
    for (int i = 7; i < arguments.length; i++) {
      String[] pair = arguments[i].split("=", 2);
      settings.put(pair[0], pair[1]);
    }
    StreamsBuilder builder = new StreamsBuilder(new TopologyConfig(new StreamsConfig(settings)));
    KStream<String, JsonNode> views = builder.stream(arguments[3], Consumed.with(KEY, VALUE));
    KStream<String, JsonNode> made =
        switch (arguments[2]) {
          case "enrichment" -> enrichment(builder, views, arguments[5]);
          case "count" -> count(views);
          case "left join" -> leftJoin(builder, views, arguments[4]);
          default -> throw new IllegalArgumentException(arguments[2]);
        };
    made.to(arguments[6], Produced.with(KEY, VALUE));
    KafkaStreams streams = new KafkaStreams(builder.build(settings), settings);
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          return StreamThreadExceptionResponse.SHUTDOWN_APPLICATION;
        });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(5))));
    streams.start();
    Thread.sleep(Long.MAX_VALUE);
  }

  private static KStream<String, JsonNode> enrichment(
      StreamsBuilder builder, KStream<String, JsonNode> views, String topic) {
    GlobalKTable<String, JsonNode> offers = builder.globalTable(topic, Consumed.with(KEY, VALUE));
    return views.leftJoin(
        offers,
        // Keys are JSON texts.
        (key, view) -> '"' + view.get("offer_id").asText() + '"',
        (view, offer) -> {
          ObjectNode row = (ObjectNode) view;
          row.set("offer", offer);
          if (offer != null) {
            row.put("epi", offer.get("cpi").asDouble() / offer.get("loi").asDouble());
            row.put("country_match", view.get("country").equals(offer.get("country")));
          }
          return row;
        });
  }

  private static KStream<String, JsonNode> count(KStream<String, JsonNode> views) {
    return views
        .groupByKey(Grouped.with(KEY, VALUE))
        .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofMinutes(1)))
        .emitStrategy(EmitStrategy.onWindowClose())
        .count(Materialized.with(KEY, Serdes.Long()))
        .toStream()
        .map(
            (window, number) -> {
              ObjectNode row = MAPPER.createObjectNode().put("offer_id", window.key());
              row.put("window_start", window.window().start()).put("window_end", window.window().end());
              return KeyValue.pair(window.key(), (JsonNode) row.put("views", number));
            });
  }

  private static KStream<String, JsonNode> leftJoin(
      StreamsBuilder builder, KStream<String, JsonNode> views, String topic) {
    KStream<String, JsonNode> clicks = builder.stream(topic, Consumed.with(KEY, VALUE));
    return views.leftJoin(
        clicks,
        (view, click) -> ((ObjectNode) view).set("click", click),
        JoinWindows.ofTimeDifferenceAndGrace(Duration.ofHours(1), Duration.ofMinutes(1)).before(Duration.ZERO),
        StreamJoined.with(KEY, VALUE, VALUE));
  }

  private StreamBenchmark() {}
}
