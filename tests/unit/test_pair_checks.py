"""Sources are compared with the sinks of their topics: findings, their locations, and valid pairs without findings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.interpolation import make_interpolator
from headrace.pair_checks import KafkaTopic, LocatedFinding, Produced, pair_findings
from headrace.plugin import ProducedTopic
from headrace.registry import Registry
from headrace.schema import DATE_SCHEMA, INT32, STRING, TIMESTAMP_SCHEMA, Schema, decimal
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig, Validator

REGISTRY = Registry()
VALIDATOR = Validator(REGISTRY, make_interpolator(REGISTRY))
PLAIN = {"value.converter": "JsonConverter", "value.converter.schemas.enable": "false"}


def source(**keys: str) -> ConnectorConfig:
    """A source that reads one table; ``_`` in names stand for dots."""
    return configured(
        {
            "name": "rows", "connector.class": "SqlSource", "connection.url": "postgresql+psycopg://u:p@h/d",
            "table.whitelist": "orders", "topic.prefix": "shop.", "mode": "bulk",
        },
        keys,
    )  # fmt: skip


def sink(**keys: str) -> ConnectorConfig:
    """A sink that reads the source's topic."""
    return configured(
        {"name": "search", "connector.class": "ElasticsearchSink", "connection.url": "http://h:9200",
         "topics": "shop.orders"},
        keys,
    )  # fmt: skip


def configured(properties: dict[str, str], keys: dict[str, str]) -> ConnectorConfig:
    return VALIDATOR.require_connector(properties | {name.replace("_", "."): text for name, text in keys.items()})


def worker(**keys: str) -> WorkerSettings:
    return WorkerSettings.parse({"bootstrap.servers": "h:9092"} | {k.replace("_", "."): v for k, v in keys.items()})


def compared(
    source_config: ConnectorConfig, *sinks: ConnectorConfig, topics: list[ProducedTopic] | None = None,
    worker_settings: WorkerSettings | None = None, kafka_topics: dict[str, KafkaTopic] | None = None,
) -> list[LocatedFinding]:  # fmt: skip
    if topics is None:
        topics = list(source_config.plugin.cls().produced_topics(source_config.own, connect=False))
    produced = [Produced(source_config, topics)]
    return pair_findings(produced, list(sinks), worker_settings or worker(), REGISTRY, kafka_topics)


def codes(found: list[LocatedFinding]) -> list[tuple[str, str, str, str]]:
    return [(name, item.code, item.key, item.severity) for name, item in found]


class TestKeys:
    def test_trial_1_a_query_without_key_columns_is_refused_by_a_sink_that_needs_keys(self) -> None:
        rows = source(query="SELECT * FROM orders", table_whitelist="", topic_prefix="shop.orders")
        found = compared(rows, sink())
        assert codes(found) == [("rows", "pair.no_key", "pk.fields", "error")]
        assert found[0].finding.hint == (
            "in 'rows': pk.mode: fields, pk.fields: <columns>; or in 'search': key.ignore: true"
        )

    @pytest.mark.parametrize("keys", [{"key_ignore": "true"}, {"topic_key_ignore": "shop.orders"}])
    def test_a_sink_that_ignores_keys_accepts_records_without_one(self, keys: dict[str, str]) -> None:
        assert compared(source(pk_mode="none"), sink(**keys)) == []

    def test_a_transform_may_make_keys_so_that_a_missing_key_is_a_warning(self) -> None:
        rows = source(pk_mode="none")
        rows = replace(rows, settings=rows.settings.model_copy(update={"transforms": ("make",)}))
        assert codes(compared(rows, sink())) == [("rows", "pair.no_key", "pk.mode", "warning")]

    def test_a_table_whose_primary_key_is_unknown_gives_no_finding(self) -> None:
        assert compared(source(), sink()) == []

    def test_tables_without_a_primary_key_give_one_finding(self) -> None:
        topics = [ProducedTopic(f"shop.t{number}", keyed=False, key_name="pk.fields") for number in range(9)]
        [(_, finding)] = compared(source(), sink(topics="", topics_regex=r"shop\..*"), topics=topics)
        assert "topics 'shop.t0', 'shop.t1', 'shop.t2' and 6 more have no key" in finding.message

    def test_f16_a_compacted_topic_needs_keys(self) -> None:
        rows = source(pk_mode="none", **{"topic.creation.default.cleanup.policy": "compact"})
        found = compared(rows)
        assert codes(found) == [
            ("rows", "pair.compacted_without_key", "topic.creation.default.cleanup.policy", "error")
        ]
        assert "pk.mode: auto" in found[0].finding.hint

    @pytest.mark.parametrize("policy", ["compact", "compact,delete"])
    def test_f16_an_existing_compacted_topic_needs_keys(self, policy: str) -> None:
        found = compared(source(pk_mode="none"), kafka_topics={"shop.orders": KafkaTopic(1, policy)})
        assert codes(found) == [("rows", "pair.compacted_without_key", "pk.mode", "error")]
        assert found[0].finding.message == (
            "records of topic 'shop.orders' have no key, and Kafka refuses them: "
            f"cleanup.policy of the topic is {policy}"
        )
        assert found[0].finding.hint == (
            "pk.mode: auto; or kafka-configs.sh --alter --entity-type topics --entity-name shop.orders "
            "--add-config cleanup.policy=delete"
        )

    @pytest.mark.parametrize(
        ("keys", "topic"),
        [
            ({"pk_mode": "none"}, KafkaTopic(1, "delete")),
            ({"pk_mode": "none"}, KafkaTopic(1)),
            ({"pk_mode": "fields", "pk_fields": "id"}, KafkaTopic(1, "compact")),
        ],
    )
    def test_keyed_records_and_topics_that_are_not_known_to_be_compacted_are_no_finding(
        self, keys: dict[str, str], topic: KafkaTopic
    ) -> None:
        assert compared(source(**keys), kafka_topics={"shop.orders": topic}) == []

    def test_the_policy_of_new_topics_does_not_concern_a_topic_that_exists(self) -> None:
        rows = source(pk_mode="none", **{"topic.creation.default.cleanup.policy": "compact"})
        assert compared(rows, kafka_topics={"shop.orders": KafkaTopic(1, "delete")}) == []


class TestAccess:
    SEEN = KafkaTopic(1, "delete", frozenset({"DESCRIBE"}))
    FORBIDDEN = KafkaTopic(operations=frozenset())

    @pytest.mark.parametrize("topic", [SEEN, FORBIDDEN])
    def test_missing_acls_of_both_sides_are_named(self, topic: KafkaTopic) -> None:
        found = compared(source(), sink(), kafka_topics={"shop.orders": topic, "other": topic})
        assert codes(found) == [
            ("rows", "kafka.not_authorized", "topic.prefix", "error"),
            ("search", "kafka.not_authorized", "topics", "error"),
        ]
        assert "WRITE on TOPIC shop.orders: kafka-acls.sh --add" in found[0].finding.hint
        assert "--operation Read --topic shop.orders" in found[1].finding.hint

    @pytest.mark.parametrize("operations", [None, frozenset({"READ", "WRITE", "DESCRIBE"})])
    def test_topics_that_are_allowed_or_of_which_the_broker_tells_nothing_are_no_finding(
        self, operations: frozenset[str] | None
    ) -> None:
        assert compared(source(), sink(), kafka_topics={"shop.orders": KafkaTopic(1, "delete", operations)}) == []

    def test_nothing_is_said_of_clients_that_log_in_as_another_user(self) -> None:
        name = "sasl.jaas.config"
        rows = source(**{f"producer.override.{name}": "x"})
        assert codes(compared(rows, sink(), kafka_topics={"shop.orders": self.SEEN}))[0][0] == "search"
        consumers = worker(**{f"consumer.{name}": "x"})
        found = compared(rows, sink(), kafka_topics={"shop.orders": self.SEEN}, worker_settings=consumers)
        assert found == []

    def test_a_forbidden_topic_has_no_partitions_to_compare_tasks_with(self) -> None:
        found = compared(source(), sink(tasks_max="4"), kafka_topics={"shop.orders": self.FORBIDDEN})
        assert "pair.idle_tasks" not in [item.code for _, item in found]


class TestTombstones:
    def deleting(self) -> ConnectorConfig:
        return source(delete_detection="soft", delete_soft_column="gone")

    def test_trial_2_a_sink_with_its_default_refuses_the_tombstones_of_deleted_rows(self) -> None:
        found = compared(self.deleting(), sink())
        assert codes(found) == [("search", "pair.tombstones", "behavior.on.null.values", "error")]
        assert found[0].finding.hint == "write behavior.on.null.values: delete"

    @pytest.mark.parametrize("choice", ["delete", "ignore"])
    def test_a_sink_that_deletes_or_ignores_tombstones_is_valid(self, choice: str) -> None:
        assert compared(self.deleting(), sink(behavior_on_null_values=choice)) == []

    def test_a_sink_of_other_topics_is_not_compared(self) -> None:
        assert compared(self.deleting(), sink(topics="others")) == []


class TestFormats:
    def test_a_schema_that_only_one_side_expects_is_an_error(self) -> None:
        found = compared(source(**{key.replace(".", "_"): text for key, text in PLAIN.items()}), sink())
        assert codes(found) == [("search", "pair.converters", "value.converter.schemas.enable", "error")]
        assert found[0].finding.hint == (
            "write value.converter: JsonConverter and value.converter.schemas.enable: false for both"
        )

    def test_different_converters_of_source_and_sink_are_a_warning(self) -> None:
        found = compared(source(key_converter="StringConverter"), sink())
        assert codes(found) == [("search", "pair.converters", "key.converter", "warning")]

    def test_without_a_worker_only_named_converters_are_compared(self) -> None:
        rows = source(value_converter="StringConverter")
        assert pair_findings([Produced(rows, [ProducedTopic("shop.orders")])], [sink()], None, REGISTRY) == []

    @pytest.mark.parametrize(
        ("schema", "becomes"),
        [
            (DATE_SCHEMA, "the number of days since 1970-01-01"),
            (TIMESTAMP_SCHEMA, "the number of milliseconds since 1970-01-01"),
            (decimal(2), "base64 text"),
        ],
    )
    def test_trial_3_types_that_are_lost_without_schemas_are_named(self, schema: Schema, becomes: str) -> None:
        topics = [ProducedTopic("shop.orders", keyed=True, fields={"id": INT32, "born": schema, "name": STRING})]
        plain = worker(value_converter_schemas_enable="false")
        [(name, finding)] = compared(source(), sink(), topics=topics, worker_settings=plain)
        assert (name, finding.code, finding.severity) == ("search", "pair.types", "warning")
        assert f"shop.orders: born is {becomes}" in finding.message
        assert "value.converter.schemas.enable: true" in finding.hint
        assert compared(source(), sink(), topics=topics) == []
        declared = sink(mapping_fields_born="date")
        assert compared(source(), declared, topics=topics, worker_settings=plain) == []

    def test_a_converter_whose_records_always_have_schemas_loses_no_types(self) -> None:
        topics = [ProducedTopic("shop.orders", keyed=True, fields={"born": DATE_SCHEMA, "price": decimal(2)})]
        avro = worker(value_converter="AvroConverter", value_converter_schema_registry_url="http://r:8081")
        assert compared(source(), sink(), topics=topics, worker_settings=avro) == []

    def test_numbers_are_exact_without_schemas_when_decimals_are_numeric(self) -> None:
        topics = [ProducedTopic("shop.orders", keyed=True, fields={"price": decimal(2)})]
        plain = worker(value_converter_schemas_enable="false", value_converter_decimal_format="NUMERIC")
        assert compared(source(), sink(), topics=topics, worker_settings=plain) == []

    def test_a_cursor_column_is_known_without_the_database(self) -> None:
        rows = source(mode="timestamp", timestamp_column_name="at")
        plain = worker(value_converter_schemas_enable="false")
        assert [item.code for _, item in compared(rows, sink(), worker_settings=plain)] == ["pair.types"]


class TestTopicsAndTasks:
    def test_f12_a_table_whose_name_is_no_topic_name_is_found_without_the_database(self) -> None:
        found = compared(source(table_whitelist="Order Details,ok1"))
        assert codes(found) == [("rows", "pair.topic_name", "topic.prefix", "error")]
        assert "'shop.Order Details' is not the name of a topic" in found[0].finding.message

    def test_a_topic_that_gives_no_index_name_is_an_error_of_the_sink(self) -> None:
        found = compared(source(), sink(topics="__offsets"))
        assert codes(found) == [("search", "elasticsearch.invalid_index_name", "topics", "error")]

    def test_more_tasks_than_partitions_are_a_warning(self) -> None:
        existing = {"shop.orders": KafkaTopic(1), "other": KafkaTopic(9)}
        found = compared(source(), sink(tasks_max="4"), kafka_topics=existing)
        assert codes(found) == [("search", "pair.idle_tasks", "tasks.max", "warning")]
        assert "4 tasks read 1 partition: 3 of them" in found[0].finding.message
        assert compared(source(), sink(tasks_max="4"), kafka_topics={"shop.orders": KafkaTopic(4)}) == []

    def test_partitions_of_topics_that_the_source_creates_are_counted(self) -> None:
        rows = source(**{"topic.creation.default.partitions": "2"})
        assert [item.code for _, item in compared(rows, sink(tasks_max="3"))] == ["pair.idle_tasks"]

    def test_two_sinks_on_one_index_are_a_warning(self) -> None:
        second = sink(name="again", topics="other", index_name="shop.orders")
        found = compared(source(), sink(), second)
        assert codes(found) == [("again", "pair.shared_destination", "topics", "warning")]
        assert compared(source(), sink(), sink(name="again", topics="other")) == []


CHOICES: dict[str, st.SearchStrategy[Any]] = {
    "pk_mode": st.sampled_from(["auto", "none", "primary_key"]),
    "value_converter": st.sampled_from(["JsonConverter", "StringConverter"]),
}


@given(
    rows=st.fixed_dictionaries({}, optional=CHOICES),
    reads=st.fixed_dictionaries(
        {},
        optional={
            "key_ignore": st.sampled_from(["true", "false"]),
            "value_converter": st.sampled_from(["JsonConverter", "StringConverter"]),
            "behavior_on_null_values": st.sampled_from(["fail", "ignore"]),
            "topics": st.sampled_from(["shop.orders", "other"]),
        },
    ),
    keyed=st.sampled_from([True, False, None]),
    deletes=st.sampled_from(["", "delete.detection: soft"]),
)
def test_every_finding_concerns_a_shared_topic_and_names_the_fix(
    rows: dict[str, str], reads: dict[str, str], keyed: bool | None, deletes: str
) -> None:
    topics = [ProducedTopic("shop.orders", keyed=keyed, key_name="pk.mode", deletes_by=deletes)]
    reader = sink(**reads)
    found = compared(source(**rows), reader, topics=topics)
    names = [item.code for _, item in found]
    shared = reads.get("topics", "shop.orders") == "shop.orders"
    assert ("pair.no_key" in names) == (shared and keyed is False and reads.get("key_ignore") != "true")
    refuses = reads.get("behavior_on_null_values", "fail") == "fail"
    assert ("pair.tombstones" in names) == (shared and bool(deletes) and refuses)
    same = rows.get("value_converter", "JsonConverter") == reads.get("value_converter", "JsonConverter")
    assert ("pair.converters" in names) == (shared and not same)
    assert all(item.hint for _, item in found)
