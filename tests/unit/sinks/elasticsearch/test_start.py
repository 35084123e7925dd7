"""Start and check report each problem of the cluster with its own error."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from headrace import ConfigError, HeadraceError, InfrastructureError, RetriableError, SinkBatch
from headrace.testing.waiting import eventually
from headrace_sinks.elasticsearch import ElasticsearchSinkConnector

Make = Callable[..., Any]
Batch = Callable[..., SinkBatch]
HEADERS = {"x-elastic-product": "Elasticsearch"}
SECURITY = {"error": {"type": "security_exception", "reason": "unable to authenticate user [x]"}, "status": 401}

FAULTS = [
    ({"status": 401, "body": SECURITY}, InfrastructureError, "elasticsearch.unauthorized"),
    ({"status": 503}, RetriableError, "elasticsearch.unavailable"),
    ({"reset": True}, RetriableError, "elasticsearch.unreachable"),
    ({"body": b"hello"}, InfrastructureError, "elasticsearch.not_elasticsearch"),
    ({"status": 404, "body": b"hello"}, InfrastructureError, "elasticsearch.not_elasticsearch"),
    (
        {"body": {"version": {"number": "2.11.0", "distribution": "opensearch"}}},
        InfrastructureError,
        "elasticsearch.not_elasticsearch",
    ),
    ({"body": {"version": {"number": "8.19.0"}}}, InfrastructureError, "elasticsearch.not_elasticsearch"),
    ({"body": {"version": {"number": "6.8.23"}}}, InfrastructureError, "elasticsearch.too_old"),
]


@pytest.mark.parametrize(("root", "kind", "code"), FAULTS)
def test_start_and_check_report_the_same_error(
    make_sink: Make, server: Any, scripted: Any, root: dict[str, Any], kind: type[HeadraceError], code: str
) -> None:
    server.root = scripted.Answer(**root)
    with pytest.raises(kind) as raised:
        make_sink()

    assert raised.value.code == code
    (finding,) = ElasticsearchSinkConnector().check({"connection.url": server.url})
    assert (finding.code, finding.severity) == (code, "error")
    assert finding.key in ("connection.url", "connection.password")


@pytest.mark.parametrize(
    "root",
    [
        {"body": {"version": {"number": "7.0.1"}}},
        {"body": {"version": {"number": "9.4.0"}}, "headers": HEADERS},
        {"status": 403, "body": SECURITY},
    ],
)
def test_suitable_clusters_are_accepted(
    make_sink: Make, server: Any, scripted: Any, root: dict[str, Any], batch: Batch
) -> None:
    server.root = scripted.Answer(**root)

    assert make_sink().put(batch({"a": 1})) == []
    assert list(ElasticsearchSinkConnector().check({"connection.url": server.url})) == []


def test_a_refused_connection_is_retriable(make_sink: Make, server: Any) -> None:
    server.close()
    with pytest.raises(RetriableError, match=f"{server.url} cannot be reached: Connection refused") as raised:
        make_sink()

    assert raised.value.code == "elasticsearch.unreachable"
    assert "connection.url" in raised.value.hint


def test_a_failed_start_can_be_retried(make_sink: Make, server: Any, scripted: Any, batch: Batch) -> None:
    sink = make_sink()
    root, server.root = server.root, scripted.Answer(503)
    with pytest.raises(RetriableError):
        sink.task.start(sink.context)

    server.root = root
    sink.task.start(sink.context)
    assert sink.put(batch({"a": 1})) == []


def test_a_task_is_stopped_after_a_failed_start(server: Any, scripted: Any, make_sink: Make) -> None:
    sink = make_sink()
    server.root = scripted.Answer(401, SECURITY)
    with pytest.raises(InfrastructureError):
        sink.task.start(sink.context)

    sink.task.stop()
    eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("test-0-bulk")])


def test_an_unreachable_node_is_replaced_by_another(make_sink: Make, server: Any, batch: Batch) -> None:
    sink = make_sink(connection_url=f"http://127.0.0.1:1,{server.url}")

    for number in range(4):
        assert sink.put(batch({"a": number}, first=number)) == []


@pytest.mark.parametrize(
    ("properties", "authorization"),
    [
        ({"connection_username": "u", "connection_password": "pä"}, "Basic dTpww6Q="),
        ({"connection_api_key": "abc=="}, "ApiKey abc=="),
        ({}, None),
    ],
)
def test_requests_have_the_configured_credentials(
    make_sink: Make, server: Any, batch: Batch, properties: dict[str, str], authorization: str | None
) -> None:
    make_sink(**properties).put(batch({"a": 1}))

    assert server.authorizations == {authorization}


def test_compressed_requests_are_written(make_sink: Make, server: Any, batch: Batch) -> None:
    make_sink(connection_compression="true").put(batch({"a": 1}))

    assert server.found("orders") == {"k0": {"a": 1}}


def test_a_missing_privilege_to_create_an_index_is_an_error(
    make_sink: Make, server: Any, scripted: Any, batch: Batch
) -> None:
    real = server.answer

    def forbid(method: str, path: str, body: bytes) -> Any:
        return scripted.Answer(403, SECURITY) if method == "PUT" else real(method, path, body)

    server.answer = forbid
    with pytest.raises(InfrastructureError, match="index 'orders' cannot be created") as raised:
        make_sink().put(batch({"a": 1}))

    assert raised.value.code == "elasticsearch.forbidden"


def test_an_index_created_by_another_task_is_used(make_sink: Make, server: Any, scripted: Any, batch: Batch) -> None:
    real = server.answer
    exists = {"error": {"type": "resource_already_exists_exception", "reason": "there"}, "status": 400}

    def slow(method: str, path: str, body: bytes) -> Any:
        return scripted.Answer(400, exists) if method == "PUT" else real(method, path, body)

    server.answer = slow

    assert make_sink().put(batch({"a": 1})) == []


def test_check_finds_missing_resources_and_full_disks(server: Any, scripted: Any) -> None:
    server.on_path["/_all/_settings/index.blocks.read_only_allow_delete"] = scripted.Answer(
        body={f"i{number}": {"settings": {}} for number in range(5)}
    )
    check = ElasticsearchSinkConnector().check(
        {
            "connection.url": server.url,
            "external.resource.usage": "INDEX",
            "topic.to.external.resource.mapping": "orders:shop",
        }
    )

    findings = list(check)
    assert [(item.code, item.severity) for item in findings] == [
        ("elasticsearch.index_missing", "error"),
        ("elasticsearch.disk_full", "warning"),
    ]
    assert "i0, i1, i2 and 2 more" in findings[1].message


def test_check_of_an_invalid_configuration_sends_no_request() -> None:
    (finding,) = ElasticsearchSinkConnector().check({"connection.url": "localhost:9200"})

    assert finding.code == "config.invalid_value"


def test_an_invalid_certificate_file_is_an_error(make_sink: Make, tmp_path: Any) -> None:
    (tmp_path / "ca.jks").write_bytes(b"\xfe\xed\xfe\xed")
    with pytest.raises(ConfigError, match="keytool"):
        make_sink(connection_url="https://localhost:1", elastic_https_ssl_truststore_location=str(tmp_path / "ca.jks"))
