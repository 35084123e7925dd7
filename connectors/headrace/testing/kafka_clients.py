"""Contract tests of Kafka clients; the tests of an adapter inherit :class:`KafkaClientsContract`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from headrace.broker.interfaces import NO_TOPIC, KafkaClients, NewTopic
from headrace.errors import DataError, RetriableError
from headrace.records import EncodedBatch, Headers, TopicPartition
from headrace.testing.group_contract import ConsumerGroupContract
from headrace.testing.recording_consumer import TIMEOUT, RecordingConsumer, create, moved, poll_until, send
from headrace.testing.waiting import eventually


class KafkaClientsContract(ConsumerGroupContract):
    """Tests of one client. Define a fixture ``kafka_clients``; ``unique_name`` comes from the tests' conftest."""

    # Producers

    def test_a_sent_batch_is_read_back(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        headers: list[Headers] = [[("a", b"1"), ("a", b"2")], [], [("empty", b"")]]
        now = int(time.time() * 1000)  # the broker may delete old records before they are read
        times = [now - 3_000, now - 2_000, now - 1_000]
        batch = EncodedBatch(topic, [b"x", None, b""], [b"k", b"k", b"k"], times, headers)
        send(kafka_clients, batch)
        reader = member(topic).subscribe([topic])
        reader.read(3)
        (got,) = reader.batches
        assert got.topic_partition.topic == topic
        assert got.offsets == [0, 1, 2]
        assert got.keys == [b"k", b"k", b"k"]
        assert got.values == [b"x", None, b""]
        assert got.timestamps == times
        assert [list(fields) for fields in got.headers] == headers
        assert got.end_offset == 3

    def test_records_without_keys_are_read_back(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        before = int(time.time() * 1000)
        send(kafka_clients, EncodedBatch(topic, [b"1", b"2"]))
        reader = member(topic).subscribe([topic])
        assert sorted(value for value in reader.read(2) if value is not None) == [b"1", b"2"]
        assert all(timestamp >= before for batch in reader.batches for timestamp in batch.timestamps)
        assert all(key is None for batch in reader.batches for key in batch.keys)

    def test_records_of_a_key_keep_their_order(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        keys: list[bytes | None] = [b"%d" % (number % 7) for number in range(500)]
        values: list[bytes | None] = [b"%d" % number for number in range(500)]
        parts = [EncodedBatch(topic, values[at : at + 50], keys[at : at + 50]) for at in range(0, 500, 50)]
        send(kafka_clients, *parts)
        reader = member(topic).subscribe([topic])
        read = [int(value) for value in reader.read(500) if value is not None]
        assert sorted(read) == list(range(500))
        for key in range(7):
            of_key = [number for number in read if number % 7 == key]
            assert of_key == sorted(of_key)

    def test_a_large_batch_is_one_delivery(self, kafka_clients: KafkaClients, topic: str) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"v" * 300] * 5_000))
        admin = kafka_clients.admin({})
        assert sum(admin.end_offsets([topic]).values()) == 5_000
        admin.close()

    def test_a_too_large_record_is_a_data_error(self, kafka_clients: KafkaClients, topic: str) -> None:
        producer = kafka_clients.producer({"max.request.size": "2000"})
        with pytest.raises(DataError) as caught:
            producer.send(EncodedBatch(topic, [b"x" * 3_000]))
        assert caught.value.code == "data.record_too_large"
        delivery = producer.send(EncodedBatch(topic, [b"x"]))
        assert producer.flush(TIMEOUT)
        assert delivery.error() is None
        producer.close(TIMEOUT)

    def test_a_record_without_key_and_value_is_a_data_error(self, kafka_clients: KafkaClients, topic: str) -> None:
        producer = kafka_clients.producer({})
        with pytest.raises(DataError) as caught:
            producer.send(EncodedBatch(topic, [b"x", None]))
        assert caught.value.code == "data.empty_record"
        producer.close(TIMEOUT)

    def test_a_producer_may_be_closed_twice(self, kafka_clients: KafkaClients) -> None:
        producer = kafka_clients.producer({})
        assert producer.connection_problem() is None
        producer.close(1)
        producer.close(1)

    # Consumers

    def test_a_poll_without_new_records_is_empty(self, topic: str, member: Callable[..., RecordingConsumer]) -> None:
        reader = member(topic).subscribe([topic]).join()
        assert reader.poll(0) == []
        assert reader.consumer.connection_problem() is None

    def test_a_poll_returns_no_more_records_than_requested(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"%d" % number for number in range(100)]))
        reader = member(topic).subscribe([topic])
        seen = 0
        deadline = time.monotonic() + TIMEOUT
        while seen < 100 and time.monotonic() < deadline:
            got = sum(map(len, reader.poll(max_records=7)))
            assert got <= 7
            seen += got
        assert sorted(reader.values(), key=str) == sorted((b"%d" % number for number in range(100)), key=str)

    def test_partitions_are_assigned_on_the_polling_thread(
        self, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        reader = member(topic).subscribe([topic]).join()
        assert reader.consumer.assignment() == {TopicPartition(topic, number) for number in range(3)}
        reader.consumer.close()
        assert [event for event, _ in reader.events] == ["assigned", "revoked"]
        assert [len(partitions) for _, partitions in reader.events] == [3, 3]
        assert reader.threads == {threading.get_ident()}

    def test_committed_records_are_not_read_again(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"a"], [b"k"]))
        first = member(topic).subscribe([topic])
        first.read(1)
        first.consumer.commit(first.positions)
        first.positions.clear()
        first.consumer.close()
        send(kafka_clients, EncodedBatch(topic, [b"b"], [b"k"]))
        second = member(topic).subscribe([topic])
        assert second.read(1) == [b"b"]

    def test_uncommitted_records_are_read_again(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"a"]))
        first = member(topic).subscribe([topic])
        first.commit_when_revoked = False
        first.read(1)
        first.consumer.close()
        assert member(topic).subscribe([topic]).read(1) == [b"a"]

    def test_a_member_can_commit_before_it_leaves(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"a"], [b"k"]))
        first = member(topic).subscribe([topic])
        first.read(1)
        (place,) = first.positions
        first.consumer.close()
        admin = kafka_clients.admin({})
        assert admin.committed(topic)[place] == 1
        admin.close()

    def test_reading_with_latest_starts_at_the_end(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"old"], [b"k"]))
        reader = member(topic, {"auto.offset.reset": "latest"}).subscribe([topic]).join()

        def more() -> bool:
            """Return whether a record was read; send one more if not: the position is set at an unknown moment."""
            if not reader.values():
                send(kafka_clients, EncodedBatch(topic, [b"new"], [b"k"]))
            return bool(reader.values())

        poll_until(more, reader)
        assert set(reader.values()) == {b"new"}

    def test_seek_moves_back_to_an_offset(
        self, kafka_clients: KafkaClients, topic: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"a", b"b"], [b"k", b"k"]))
        reader = member(topic).subscribe([topic])
        reader.read(2)
        (place,) = reader.positions
        reader.consumer.seek(place, 1)
        assert reader.read(3) == [b"a", b"b", b"b"]

    def test_a_pattern_must_match_the_whole_name(
        self, kafka_clients: KafkaClients, unique_name: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        for suffix in ("-a", "-a-more"):
            create(kafka_clients, unique_name + suffix)
            send(kafka_clients, EncodedBatch(unique_name + suffix, [suffix.encode()]))
        reader = member(unique_name).subscribe(pattern=f"{unique_name}-b|{unique_name}-a").join()
        assert {item.topic for item in reader.consumer.assignment()} == {f"{unique_name}-a"}
        assert reader.read(1) == [b"-a"]

    def test_a_new_topic_that_matches_the_pattern_is_read(
        self, kafka_clients: KafkaClients, unique_name: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        create(kafka_clients, f"{unique_name}-1")
        reader = member(unique_name).subscribe(pattern=f"{unique_name}-.*").join()
        create(kafka_clients, f"{unique_name}-2")
        send(kafka_clients, EncodedBatch(f"{unique_name}-2", [b"late"]))
        assert reader.read(1) == [b"late"]

    # Admin

    def test_topics_are_created_once(self, kafka_clients: KafkaClients, unique_name: str) -> None:
        admin = kafka_clients.admin({})
        assert unique_name not in admin.topics()
        admin.create_topics([NewTopic(unique_name, 2, 1, {"cleanup.policy": "compact"})])
        admin.create_topics([NewTopic(unique_name, 5, 1)])
        assert unique_name in admin.topics()
        assert admin.end_offsets([unique_name]) == {TopicPartition(unique_name, number): 0 for number in range(2)}
        admin.close()

    def test_a_deleted_topic_is_gone_with_its_offsets_and_can_be_created_again(
        self, kafka_clients: KafkaClients, unique_name: str
    ) -> None:
        admin = kafka_clients.admin({})
        admin.create_topics([NewTopic(unique_name, 2, 1)])
        send(kafka_clients, EncodedBatch(unique_name, [b"a"]))
        admin.commit(f"{unique_name}-group", {TopicPartition(unique_name, 0): 1})
        admin.delete_topics([unique_name, f"{unique_name}-unknown"])
        assert unique_name not in admin.topics()
        assert admin.end_offsets([unique_name]) == {}
        admin.create_topics([NewTopic(unique_name, 1, 1)])
        assert admin.end_offsets([unique_name]) == {TopicPartition(unique_name, 0): 0}
        assert admin.committed(f"{unique_name}-group") == {}
        admin.close()

    def test_settings_of_topics_are_read_with_their_defaults(
        self, kafka_clients: KafkaClients, topic: str, unique_name: str
    ) -> None:
        compacted = f"{unique_name}-compacted"
        admin = kafka_clients.admin({})
        admin.create_topics([NewTopic(compacted, 1, 1, {"cleanup.policy": "compact,delete"})])
        found = admin.topic_configs([topic, compacted, f"{unique_name}-unknown", "not a topic"])
        admin.close()
        policies = {name: settings["cleanup.policy"] for name, settings in found.items()}
        assert policies == {topic: "delete", compacted: "compact,delete"}

    def test_records_before_an_offset_are_deleted(self, kafka_clients: KafkaClients, topic: str) -> None:
        keyed = EncodedBatch(topic, [b"%d" % number for number in range(5)], [b"key"] * 5)
        send(kafka_clients, keyed)
        admin = kafka_clients.admin({})
        (place,) = (item for item, end in admin.end_offsets([topic]).items() if end)
        admin.delete_records({place: 3})
        assert admin.begin_offsets([topic])[place] == 3
        admin.delete_records({place: 2})
        assert admin.begin_offsets([topic])[place] == 3
        admin.delete_records({})
        admin.close()

    def test_a_topic_has_an_id(self, kafka_clients: KafkaClients, topic: str, unique_name: str) -> None:
        admin = kafka_clients.admin({})
        other = f"{unique_name}-other"
        create(kafka_clients, other)
        found = admin.topic_ids([topic, other, f"{unique_name}-unknown"])
        assert set(found) == {topic, other}
        assert len(set(found.values())) == 2
        assert admin.topic_ids([topic]) == {topic: found[topic]}
        assert admin.topic_ids([]) == {}
        admin.close()

    def test_operations_that_are_allowed_on_topics_are_read(
        self, kafka_clients: KafkaClients, topic: str, unique_name: str
    ) -> None:
        admin = kafka_clients.admin({})
        found = admin.topic_operations([topic, f"{unique_name}-unknown", "not a topic"])
        assert admin.topic_operations([]) == {}
        admin.close()
        assert found.keys() == {topic}
        assert {"READ", "WRITE", "DESCRIBE"} <= found[topic]

    def test_a_group_that_may_be_read_as_does_not_change(
        self, kafka_clients: KafkaClients, topic: str, unique_name: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        admin = kafka_clients.admin({})
        assert admin.may_read_as(unique_name)
        assert admin.committed(unique_name) == {}
        member(f"{unique_name}-used").subscribe([topic]).join()
        assert admin.may_read_as(f"{unique_name}-used"), "also while it has members"
        assert not [name for name in admin.topics() if name.startswith(NO_TOPIC)]
        admin.close()

    def test_unknown_topics_and_groups_are_left_out(self, kafka_clients: KafkaClients, unique_name: str) -> None:
        admin = kafka_clients.admin({})
        assert admin.end_offsets([unique_name]) == {}
        assert admin.end_offsets([]) == {}
        assert admin.begin_offsets([unique_name]) == {}
        assert admin.topic_configs([unique_name]) == {}
        assert admin.topic_configs([]) == {}
        assert admin.committed(unique_name) == {}
        assert unique_name not in admin.topics()
        admin.create_topics([])
        admin.close()

    def test_offsets_of_a_group_are_moved(
        self, kafka_clients: KafkaClients, topic: str, unique_name: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        send(kafka_clients, EncodedBatch(topic, [b"0", b"1", b"2"], [b"same key"] * 3))
        admin = kafka_clients.admin({})
        assert set(admin.begin_offsets([topic]).values()) == {0}
        (place,) = (item for item, end in admin.end_offsets([topic]).items() if end == 3)
        wanted = {place: 2, TopicPartition(topic, (place.partition + 1) % 3): 0}
        eventually(lambda: moved(admin, unique_name, wanted), TIMEOUT)
        assert admin.committed(unique_name) == wanted
        assert member(unique_name).subscribe([topic]).read(1) == [b"2"]
        admin.close()

    def test_offsets_of_a_group_with_members_are_not_moved(
        self, kafka_clients: KafkaClients, topic: str, unique_name: str, member: Callable[..., RecordingConsumer]
    ) -> None:
        admin = kafka_clients.admin({})
        inside = member(unique_name).subscribe([topic]).join()
        with pytest.raises(RetriableError) as info:
            admin.commit(unique_name, {TopicPartition(topic, 0): 0})
        assert info.value.code == "kafka.group_in_use"
        assert admin.committed(unique_name) == {}
        inside.consumer.close()
        eventually(lambda: moved(admin, unique_name, {TopicPartition(topic, 0): 0}), TIMEOUT)
        assert admin.committed(unique_name) == {TopicPartition(topic, 0): 0}
        admin.close()

    def test_an_admin_is_usable_by_several_threads(self, kafka_clients: KafkaClients, topic: str) -> None:
        admin = kafka_clients.admin({})
        answers: list[str] = []

        def ask() -> None:
            for _ in range(5):
                answers.append(admin.cluster_id())
                admin.end_offsets([topic])

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert len(answers) == 20
        assert len(set(answers)) == 1
        assert answers[0]
        admin.close()
