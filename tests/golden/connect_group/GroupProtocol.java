// Records what Kafka Connect's own classes write and decide; see scripts/record_connect_group.py.
//
// Standard input: one JSON object on each line. Standard output: {"id": …, "out": …} on each line.
//   {"kind": "state", "version": 0|1|2, "url", "offset", "held": assignment|null}    the bytes of the metadata, in hex
//   {"kind": "assignment", "version", assignment}                                    the bytes of the assignment, in hex
//   {"kind": "read-state"|"read-assignment", "hex"}                                  what Connect reads from these bytes
//   {"kind": "rounds", "delay": ms, "rounds": [{"now", "connectors": {name: tasks}, "members": [..]}]}
//       the decisions of one assignor in consecutive rounds; members report what they were given in the round before
//   {"kind": "offsets", "entries": [[key, value], …]}                                a standalone offset file, in hex
//
// assignment: {"error", "leader", "leaderUrl", "offset", "assigned": [[connector, task]], "revoked": […], "delay"}, -1 for
// the connector itself.
package org.apache.kafka.connect.runtime.distributed;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.ObjectOutputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.common.utils.internals.LogContext;
import org.apache.kafka.connect.storage.ClusterConfigState;
import org.apache.kafka.connect.util.ConnectorTaskId;

public final class GroupProtocol {
    private static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            JsonNode given = JSON.readTree(line);
            ObjectNode answer = JSON.createObjectNode();
            answer.set("id", given.get("id"));
            answer.set("out", answer(given));
            System.out.println(JSON.writeValueAsString(answer));
        }
    }

    private static JsonNode answer(JsonNode given) throws Exception {
        switch (given.get("kind").asText()) {
            case "state": return hex(state(given));
            case "assignment": return hex(assignment(given, given.get("version").shortValue()));
            case "read-state": return readState(bytes(given));
            case "read-assignment": return readAssignment(bytes(given));
            case "offsets": return offsets(given.get("entries"));
            default: return rounds(given);
        }
    }

    private static ByteBuffer state(JsonNode given) {
        short version = given.get("version").shortValue();
        String url = given.get("url").asText();
        long offset = given.get("offset").asLong();
        if (version == 0) {
            return ConnectProtocol.serializeMetadata(new ConnectProtocol.WorkerState(url, offset));
        }
        JsonNode held = given.get("held");
        ExtendedAssignment assignment = held.isNull() ? null : extended(held, version);
        return IncrementalCooperativeConnectProtocol.serializeMetadata(
            new ExtendedWorkerState(url, offset, assignment), version == 2);
    }

    private static ByteBuffer assignment(JsonNode given, short version) {
        if (version == 0) {
            return ConnectProtocol.serializeAssignment(new ConnectProtocol.Assignment(
                given.get("error").shortValue(), text(given, "leader"), text(given, "leaderUrl"),
                given.get("offset").asLong(), connectors(given.get("assigned")), tasks(given.get("assigned"))));
        }
        return IncrementalCooperativeConnectProtocol.serializeAssignment(extended(given, version), version == 2);
    }

    private static ExtendedAssignment extended(JsonNode given, short version) {
        return new ExtendedAssignment(
            version, given.get("error").shortValue(), text(given, "leader"), text(given, "leaderUrl"),
            given.get("offset").asLong(), connectors(given.get("assigned")), tasks(given.get("assigned")),
            connectors(given.get("revoked")), tasks(given.get("revoked")), given.get("delay").asInt());
    }

    private static JsonNode readState(ByteBuffer data) {
        ExtendedWorkerState read = IncrementalCooperativeConnectProtocol.deserializeMetadata(data);
        ObjectNode found = JSON.createObjectNode();
        found.put("url", read.url());
        found.put("offset", read.offset());
        found.set("assigned", read.assignment() == null ? null
            : units(read.assignment().connectors(), read.assignment().tasks()));
        return found;
    }

    private static JsonNode readAssignment(ByteBuffer data) {
        ExtendedAssignment read = IncrementalCooperativeConnectProtocol.deserializeAssignment(data);
        ObjectNode found = JSON.createObjectNode();
        found.put("error", read.error());
        found.put("leader", read.leader());
        found.put("leaderUrl", read.leaderUrl());
        found.put("offset", read.offset());
        found.set("assigned", units(read.connectors(), read.tasks()));
        found.set("revoked", units(read.revokedConnectors(), read.revokedTasks()));
        found.put("delay", read.delay());
        return found;
    }

    /** As FileOffsetBackingStore.save. */
    private static JsonNode offsets(JsonNode entries) throws Exception {
        Map<byte[], byte[]> raw = new HashMap<>();
        for (JsonNode entry : entries) {
            raw.put(entry.get(0).asText().getBytes(StandardCharsets.UTF_8),
                entry.get(1).isNull() ? null : entry.get(1).asText().getBytes(StandardCharsets.UTF_8));
        }
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (ObjectOutputStream stream = new ObjectOutputStream(bytes)) {
            stream.writeObject(raw);
        }
        return JSON.getNodeFactory().textNode(HexFormat.of().formatHex(bytes.toByteArray()));
    }

    private static JsonNode rounds(JsonNode given) {
        Clock clock = new Clock();
        IncrementalCooperativeAssignor assignor =
            new IncrementalCooperativeAssignor(new LogContext(), clock, given.get("delay").asInt());
        ArrayNode found = JSON.createArrayNode();
        Map<String, Set<String>> held = new TreeMap<>();
        int generation = 0;
        for (JsonNode round : given.get("rounds")) {
            clock.now = round.get("now").asLong();
            Map<String, WorkerCoordinator.ConnectorsAndTasks> members = new LinkedHashMap<>();
            Map<String, Set<String>> reported = new TreeMap<>();
            for (JsonNode member : round.get("members")) {
                Set<String> units = held.getOrDefault(member.asText(), Set.of());
                reported.put(member.asText(), units);
                members.put(member.asText(), known(units));
            }
            generation++;
            IncrementalCooperativeAssignor.ClusterAssignment decided = assignor.performTaskAssignment(
                configured(round.get("connectors")), generation - 1, generation, members);
            assignor.previousGenerationId = generation;
            assignor.previousMembers = new java.util.HashSet<>(members.keySet());
            ObjectNode answer = JSON.createObjectNode();
            answer.put("delay", assignor.delay);
            ObjectNode assigned = answer.putObject("assigned");
            ObjectNode revoked = answer.putObject("revoked");
            held = new TreeMap<>();
            for (String member : reported.keySet()) {
                ArrayNode added = units(decided.newlyAssignedConnectors(member), decided.newlyAssignedTasks(member));
                ArrayNode gone = units(decided.newlyRevokedConnectors(member), decided.newlyRevokedTasks(member));
                assigned.set(member, added);
                revoked.set(member, gone);
                Set<String> units = new TreeSet<>(reported.get(member));
                gone.forEach(unit -> units.remove(unit.asText()));
                added.forEach(unit -> units.add(unit.asText()));
                held.put(member, units);
            }
            found.add(answer);
        }
        return found;
    }

    private static ClusterConfigState configured(JsonNode connectors) {
        Map<String, Integer> counts = new HashMap<>();
        Map<String, Map<String, String>> configs = new HashMap<>();
        Map<ConnectorTaskId, Map<String, String>> tasks = new HashMap<>();
        connectors.fields().forEachRemaining(entry -> {
            counts.put(entry.getKey(), entry.getValue().asInt());
            configs.put(entry.getKey(), Map.of());
            for (int task = 0; task < entry.getValue().asInt(); task++) {
                tasks.put(new ConnectorTaskId(entry.getKey(), task), Map.of());
            }
        });
        return new ClusterConfigState(
            1, null, counts, configs, Map.of(), tasks, Map.of(), Map.of(), Map.of(), Set.of(), Set.of());
    }

    /** Units are texts here: "name" is a connector, "name 0" one of its tasks. */
    private static WorkerCoordinator.ConnectorsAndTasks known(Set<String> units) {
        List<String> connectors = new ArrayList<>();
        List<ConnectorTaskId> tasks = new ArrayList<>();
        for (String unit : units) {
            int space = unit.indexOf(' ');
            if (space < 0) {
                connectors.add(unit);
            } else {
                tasks.add(new ConnectorTaskId(unit.substring(0, space), Integer.parseInt(unit.substring(space + 1))));
            }
        }
        return new WorkerCoordinator.ConnectorsAndTasks.Builder().with(connectors, tasks).build();
    }

    private static ArrayNode units(Collection<String> connectors, Collection<ConnectorTaskId> tasks) {
        TreeSet<String> sorted = new TreeSet<>(connectors);
        tasks.forEach(task -> sorted.add(task.connector() + " " + task.task()));
        ArrayNode found = JSON.createArrayNode();
        sorted.forEach(found::add);
        return found;
    }

    private static List<String> connectors(JsonNode units) {
        List<String> found = new ArrayList<>();
        units.forEach(unit -> {
            if (unit.get(1).asInt() == -1) {
                found.add(unit.get(0).asText());
            }
        });
        return found;
    }

    private static List<ConnectorTaskId> tasks(JsonNode units) {
        List<ConnectorTaskId> found = new ArrayList<>();
        units.forEach(unit -> {
            if (unit.get(1).asInt() != -1) {
                found.add(new ConnectorTaskId(unit.get(0).asText(), unit.get(1).asInt()));
            }
        });
        return found;
    }

    private static String text(JsonNode given, String name) {
        return given.get(name).isNull() ? null : given.get(name).asText();
    }

    private static JsonNode hex(ByteBuffer data) {
        byte[] bytes = new byte[data.remaining()];
        data.get(bytes);
        return JSON.getNodeFactory().textNode(HexFormat.of().formatHex(bytes));
    }

    private static ByteBuffer bytes(JsonNode given) {
        return ByteBuffer.wrap(HexFormat.of().parseHex(given.get("hex").asText()));
    }

    /** A clock that the cases set. */
    private static final class Clock implements Time {
        private long now;

        @Override public long milliseconds() { return now; }
        @Override public long nanoseconds() { return now * 1_000_000; }
        @Override public long hiResClockMs() { return now; }
        @Override public void sleep(long milliseconds) { now += milliseconds; }
        @Override public void waitObject(Object object, java.util.function.Supplier<Boolean> condition, long deadline) { }
        @Override public org.apache.kafka.common.utils.Timer timer(long timeout) {
            return Time.SYSTEM.timer(timeout);
        }
    }
}
