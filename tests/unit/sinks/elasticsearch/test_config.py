from pathlib import Path
from typing import Any

import pytest
import yaml

from headrace import schema
from headrace.settings import SinkSettings
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector
from headrace_sinks.elasticsearch.cluster.responses import without_contents
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.mappings.schema_mapping import MappingPolicy, mapping

URL = {"connection.url": "http://localhost:9200"}
EXAMPLE = Path(__file__).parents[4] / "config/connectors/elasticsearch.yaml"


def findings(**properties: str) -> list[tuple[str, str, str]]:
    """(code, key, severity) of each."""
    own = {**URL, **{name.replace("_", "."): value for name, value in properties.items()}}
    return [(item.code, item.key, item.severity) for item in ElasticsearchSinkConfig.validate_properties(own)[1]]


def test_the_defaults_are_those_of_kafka_connect() -> None:
    config = ElasticsearchSinkConfig.parse(URL)

    assert (config.batch_size, config.max_in_flight_requests, config.max_retries, config.retry_backoff) == (
        2000, 5, 5, 100,
    )  # fmt: skip
    assert (config.on_null_values, config.on_malformed_documents, config.write_method) == ("fail", "fail", "insert")


def test_the_example_is_valid() -> None:
    written: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in written.items()}
    own = {key: value for key, value in texts.items() if not SinkSettings.owns(key)}
    own["connection.url"] = "http://localhost:9200"

    _, found = ElasticsearchSinkConfig.validate_properties(own)
    assert [item for item in found if item.severity == "error"] == []


STREAM = {"data_stream_type": "LOGS", "data_stream_dataset": "web", "key_ignore": "true"}
MAPPED = {"external_resource_usage": "INDEX", "topic_to_external_resource_mapping": "a:b"}
ROUTED = {"routing_type": "value", "routing_type_record_value_path": "/a"}


@pytest.mark.parametrize(
    ("properties", "code", "key"),
    [
        ({"connection_url": ""}, "config.invalid_value", "connection.url"),
        ({"connection_url": "localhost:9200"}, "config.invalid_value", "connection.url"),
        ({"connection_url": "http://h:x"}, "config.invalid_value", "connection.url"),
        ({"elastic_security_protocol": "SSL"}, "config.conflict", "connection.url"),
        ({"connection_username": "u"}, "config.conflict", "connection.password"),
        ({"connection_password": "p"}, "config.conflict", "connection.username"),
        ({"key_ignore": "true", "topic_key_ignore": "a"}, "config.conflict", "topic.key.ignore"),
        ({"schema_ignore": "true", "topic_schema_ignore": "a"}, "config.conflict", "topic.schema.ignore"),
        ({"write_method": "merge"}, "config.invalid_value", "write.method"),
        ({"batch_size": "0"}, "config.invalid_value", "batch.size"),
        ({"batchsize": "1"}, "config.unknown_key", "batchsize"),
        ({"data_stream_type": "logs"}, "config.conflict", "data.stream.dataset"),
        ({"data_stream_dataset": "web"}, "config.conflict", "data.stream.type"),
        ({**STREAM, "data_stream_dataset": "We b"}, "config.invalid_value", "data.stream.dataset"),
        ({**STREAM, "data_stream_dataset": "a-b"}, "config.invalid_value", "data.stream.dataset"),
        ({**STREAM, "data_stream_dataset": "x" * 101}, "config.invalid_value", "data.stream.dataset"),
        ({**STREAM, "data_stream_namespace": "A/b"}, "config.invalid_value", "data.stream.namespace"),
        ({**STREAM, "write_method": "upsert"}, "config.conflict", "write.method"),
        ({**STREAM, "behavior_on_null_values": "delete"}, "config.conflict", "behavior.on.null.values"),
        ({**STREAM, "index_name": "orders"}, "config.conflict", "index.name"),
        ({"data_stream_timestamp_field": "at"}, "config.conflict", "data.stream.timestamp.field"),
        ({"proxy_username": "u"}, "config.conflict", "proxy.password"),
        ({"proxy_username": "u", "proxy_password": "p"}, "config.conflict", "proxy.host"),
        ({"proxy_host": "http://h"}, "config.invalid_value", "proxy.host"),
        ({"proxy_host": "u:secret@h"}, "config.invalid_value", "proxy.host"),
        ({**ROUTED, "behavior_on_null_values": "delete"}, "config.conflict", "routing.type"),
        ({"index_template": "t", "data_stream_retention": "9d"}, "config.conflict", "data.stream.retention"),
        ({"proxy_host": "h", "proxy_port": "0"}, "config.invalid_value", "proxy.port"),
        ({"elastic_https_ssl_key_password": "p"}, "config.conflict", "elastic.https.ssl.keystore.location"),
        ({"elastic_https_ssl_keystore_type": "JKS"}, "config.not_supported", "elastic.https.ssl.keystore.type"),
        ({"routing_type": "value"}, "config.conflict", "routing.type.record.value.path"),
        (
            {"routing_type": "value", "routing_type_record_value_path": "a"},
            "config.invalid_value",
            "routing.type.record.value.path",
        ),
        ({"index_name": "{value:region}"}, "config.invalid_value", "index.name"),
        ({"index_name": "orders-{nothing}"}, "config.invalid_value", "index.name"),
        ({"index_name": "Orders"}, "config.invalid_value", "index.name"),
        ({"index_name": "orders-{time:%s}"}, "config.invalid_value", "index.name"),
        ({"index_name": "x-{1}", "index_name_regex": "("}, "config.invalid_value", "index.name.regex"),
        ({"index_name_regex": "x"}, "config.conflict", "index.name.regex"),
        ({"index_name": "x", **MAPPED}, "config.conflict", "index.name"),
        ({"kerberos_keytab_path": "/k"}, "config.not_supported", "kerberos.keytab.path"),
        ({"elastic_https_ssl_truststore_type": "JKS"}, "config.invalid_value", "elastic.https.ssl.truststore.type"),
        ({"external_resource_usage": "INDEX"}, "config.conflict", "topic.to.external.resource.mapping"),
        (
            {"topic_to_external_resource_mapping": "a:b"},
            "config.conflict",
            "topic.to.external.resource.mapping",
        ),
        (
            {"external_resource_usage": "INDEX", "topic_to_external_resource_mapping": "ab"},
            "config.invalid_value",
            "topic.to.external.resource.mapping",
        ),
        (
            {"external_resource_usage": "INDEX", "topic_to_external_resource_mapping": "a:b,a:c"},
            "config.conflict",
            "topic.to.external.resource.mapping",
        ),
    ],
)
def test_each_mistake_is_an_error_of_its_key(properties: dict[str, str], code: str, key: str) -> None:
    assert (code, key, "error") in findings(**properties)


def test_credentials_in_a_url_are_refused_and_not_shown() -> None:
    _, found = ElasticsearchSinkConfig.validate_properties({"connection.url": "http://u:secret@h:9200"})

    assert [item.key for item in found] == ["connection.url"]
    assert "secret" not in str(found[0])


def test_password_and_api_key_together_are_a_conflict() -> None:
    own = {"connection_username": "u", "connection_password": "p", "connection_api_key": "k"}

    assert findings(**own) == [("config.conflict", "connection.api.key", "error")]


@pytest.mark.parametrize(
    ("properties", "key"),
    [
        ({"key_ignore": "true", "behavior_on_null_values": "delete"}, "behavior.on.null.values"),
        ({"use_autogenerated_ids": "true", "write_method": "upsert"}, "use.autogenerated.ids"),
        ({"external_version_header": "v", "write_method": "upsert"}, "external.version.header"),
        ({"ingest_pipeline": "p", "write_method": "upsert"}, "ingest.pipeline"),
        ({**MAPPED, "index_settings_number_of_shards": "3"}, "index.settings.number.of.shards"),
        ({**MAPPED, "mapping_fields_a": "keyword"}, "mapping.fields.a"),
        ({**MAPPED, "index_generations": "true", "index_template": "t"}, "index.generations"),
        ({**STREAM, "index_aliases": "a"}, "index.aliases"),
        ({**STREAM, "index_lifecycle_policy": "p"}, "index.lifecycle.policy"),
        ({**STREAM, "index_generations": "true"}, "index.generations"),
        ({"index_management": "none", "mapping_dynamic": "strict"}, "mapping.dynamic"),
        ({"index_management": "none", "index_template": "t"}, "index.template"),
        ({"flush_timeout_ms": "1"}, "flush.timeout.ms"),
        ({"type_name": "_doc"}, "type.name"),
    ],
)
def test_a_key_without_effect_is_a_warning(properties: dict[str, str], key: str) -> None:
    (finding,) = findings(**properties)

    assert finding[1:] == (key, "warning")


@pytest.mark.parametrize(
    "properties",
    [
        STREAM,
        {"external_resource_usage": "DATASTREAM", "topic_to_external_resource_mapping": "a:b", "key_ignore": "true"},
        {**MAPPED, "index_template": "t", "index_settings_number_of_shards": "3", "mapping_fields_a": "keyword"},
        {**STREAM, "index_template": "t", "index_aliases": "a", "data_stream_retention": "9d"},
        {**STREAM, "mapping_fields_a": "keyword"},
        ROUTED,
        {"proxy_host": "[::1]"},
        {"index_name": "orders-{value:region}-{time:%Y.%m}"},
        {"index_name": "{value:region}", "index_name_allowed": "eu,us"},
        {"index_name": "{shop}-{2}", "index_name_regex": r"(?P<shop>\w+)\.(\w+)"},
        {"proxy_host": "h", "proxy_username": "u", "proxy_password": "p"},
        {"elasticsearch_compatibility": "8"},
        {"write_method": "UPDATE"},
    ],
)
def test_valid_configurations_have_no_findings(properties: dict[str, str]) -> None:
    assert findings(**properties) == []


def test_the_data_stream_type_none_is_accepted() -> None:
    assert findings(data_stream_type="NONE") == []


def test_class_names_of_jvm_connectors_are_aliases() -> None:
    assert "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector" in ElasticsearchSinkConnector.aliases


def test_a_schema_is_converted_to_a_mapping() -> None:
    of = schema.struct(
        {
            "flag": schema.BOOLEAN,
            "small": schema.INT8,
            "name": schema.STRING,
            "price": schema.decimal(2),
            "at": schema.TIMESTAMP_SCHEMA,
            "raw": schema.BYTES,
            "tags": schema.array(schema.INT64),
            "extra": schema.mapping(schema.STRING, schema.INT32),
            "by_number": schema.mapping(schema.INT32, schema.FLOAT32),
            "inner": schema.struct({"count": schema.Schema(schema.Type.INT32, default=5)}),
        }
    )

    assert mapping(of) == {
        "properties": {
            "flag": {"type": "boolean"},
            "small": {"type": "byte"},
            "name": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
            "price": {"type": "double"},
            "at": {"type": "date"},
            "raw": {"type": "binary"},
            "tags": {"type": "long"},
            "extra": {"type": "object"},
            "by_number": {"properties": {"key": {"type": "integer"}, "value": {"type": "float"}}},
            "inner": {"properties": {"count": {"type": "integer", "null_value": 5}}},
        }
    }
    listed = mapping(schema.mapping(schema.STRING, schema.INT32), MappingPolicy(compact_maps=False))
    assert set(listed["properties"]) == {"key", "value"}


@pytest.mark.parametrize(
    "reason",
    [
        "failed to parse field [a] of type [long] in document with id 'SECRET'. Preview of field's value: 'SECRET'",
        "failed to parse date field [SECRET] with format [strict_date_optional_time||epoch_millis]",
        'For input string: "SECRET"',
        "Failed to parse value [SECRET] as only [true] or [false] are allowed.",
        'Document contains at least one immense term in field="a" (whose UTF8 encoding is longer than the max length '
        "32766), all of which were skipped. The prefix of the first immense term is: '[83, SECRET]...'",
        "[SECRET]: version conflict, current version [5] is higher or equal to the one provided [3]",
        "something about 'SECRET' and then 'SECRET'",
        '[1:2] failed to parse: [1:9] Non-standard token \'NaN\'\n at [Source: (byte[])"{"a":NaN,"b":"SECRET; line: 1, '
        'column: 2]SECRET"}"; line: 1, column: 9]',
        'Duplicate field \'a\'\n at [Source: (byte[])"{"a":"SECRET"[truncated 9 bytes]',
    ],
)
def test_reasons_contain_no_values_of_documents(reason: str) -> None:
    assert "SECRET" not in without_contents(reason)


def test_a_reason_keeps_the_position_in_invalid_json() -> None:
    reason = '[1:2] failed to parse: no comma\n at [Source: (byte[])"{"a":1 "b"}"; line: 1, column: 9]'

    assert without_contents(reason) == "[1:2] failed to parse: no comma (line: 1, column: 9)"


def test_reasons_keep_field_names_and_are_truncated() -> None:
    reason = "[1:34] mapping set to strict, dynamic introduction of [colour] within [_doc] is not allowed"

    assert without_contents(reason) == reason
    assert len(without_contents("x" * 10_000)) < 600
