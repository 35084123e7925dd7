"""The registry client: addresses, outages, credentials, TLS, and answers that are not a registry's."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from headrace import ConfigError, DataError, InfrastructureError, RetriableError, TaskError
from headrace import schema as s
from headrace.converters.avro.configuration import AvroConverterConfig
from headrace.converters.schema_registry.registry_client import SchemaRegistryClient
from headrace.embedded.tcp_ports import free_port
from headrace.testing.faults import Drop, Hang, HttpProxy, StatusFault
from tests.unit.converters.schema_registry.converters import avro_converter
from tests.unit.converters.schema_registry.fake_registry import FakeSchemaRegistry, served


@pytest.fixture
def proxy(registry: FakeSchemaRegistry) -> Iterator[HttpProxy]:
    made = HttpProxy(registry.url)
    yield made
    made.close()


def client(url: str, **options: str) -> SchemaRegistryClient:
    names = {name.replace("_", "."): value for name, value in options.items()}
    return SchemaRegistryClient(AvroConverterConfig.parse({"schema.registry.url": url, **names}), "AVRO")


def test_a_connection_that_breaks_is_tried_again_at_once(registry: FakeSchemaRegistry, proxy: HttpProxy) -> None:
    number = registry.add("a", '"int"')
    proxy.play(Drop())
    asked = client(proxy.url)
    assert asked.schema(number).text == '"int"'
    assert len(proxy.seen()) == 2
    asked.close()


@pytest.mark.parametrize("fault", [StatusFault(503), StatusFault(500), StatusFault(429), Drop()])
def test_a_registry_that_is_unavailable_is_waited_for(
    registry: FakeSchemaRegistry, proxy: HttpProxy, fault: StatusFault | Drop
) -> None:
    """Both ways, and for every call until it is there again: no record is refused for it."""
    proxy.always(fault)
    with avro_converter(proxy.url) as converter:
        for _ in range(2):
            with pytest.raises(RetriableError) as caught:
                converter.from_bytes("t", [b"\x00\x00\x00\x00\x01\x02"])
            with pytest.raises(RetriableError):
                converter.to_bytes("outage", s.STRING, ["a"])
        assert caught.value.code == "schema_registry.unavailable"
        assert proxy.url in str(caught.value)
        proxy.restore()
        texts = converter.to_bytes("outage", s.STRING, ["a"])
        assert converter.from_bytes("outage", texts)[0].values == ["a"]


def test_a_registry_that_does_not_answer_in_time_is_unavailable(proxy: HttpProxy) -> None:
    proxy.always(Hang())
    asked = client(proxy.url, http_read_timeout_ms="50")
    with pytest.raises(RetriableError, match="timed out"):
        asked.schema(1)
    asked.close()


def test_the_next_address_is_asked_and_kept(registry: FakeSchemaRegistry) -> None:
    gone = f"http://127.0.0.1:{free_port()}"
    number = registry.add("b", '"long"')
    asked = client(f"{gone}, {registry.url}")
    assert asked.schema(number).text == '"long"'
    assert asked.address == f"{gone}, {registry.url}"
    asked.close()
    nowhere = client(f"{gone},{gone}/other")
    with pytest.raises(RetriableError) as caught:
        nowhere.register("s", '"int"')
    assert f"{gone}, {gone}/other" in str(caught.value)
    nowhere.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://us%40er:pass%3Aword@{host}", {}),
        ("http://{host}", {"basic_auth_credentials_source": "USER_INFO", "basic_auth_user_info": "us@er:pass:word"}),
        (
            "http://{host}",
            {"basic_auth_credentials_source": "USER_INFO", "schema_registry_basic_auth_user_info": "us@er:pass:word"},
        ),
    ],
)
def test_user_and_password_are_sent_and_never_shown(url: str, options: dict[str, str]) -> None:
    with served(FakeSchemaRegistry()) as secured:
        secured.require("us@er", "pass:word")
        asked = client(url.format(host=secured.url.removeprefix("http://")), **options)
        assert asked.register("s", '"int"').number == 1
        secured.require("us@er", "other")
        with pytest.raises(InfrastructureError) as caught:
            asked.register("t", '"int"')
        asked.close()
    assert caught.value.code == "schema_registry.access_denied"
    assert "pass" not in str(caught.value)


def test_a_token_is_sent() -> None:
    with served(FakeSchemaRegistry()) as secured:
        secured.authorization = "Bearer abc"
        asked = client(secured.url, bearer_auth_credentials_source="STATIC_TOKEN", bearer_auth_token="abc")
        assert asked.register("s", '"int"').number == 1
        asked.close()


def test_certificates_are_checked_with_the_given_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    server, client_certificate = authority.issue_cert("localhost"), authority.issue_cert("worker@example.org")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    client_certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.configure_cert(tls)
    authority.configure_trust(tls)
    tls.verify_mode = ssl.CERT_REQUIRED
    given = {
        "schema_registry_ssl_truststore_location": str(tmp_path / "ca.pem"),
        "schema_registry_ssl_keystore_location": str(tmp_path / "client.pem"),
    }
    with served(FakeSchemaRegistry(), tls) as secured:
        trusted, untrusted = client(secured.url, **given), client(secured.url)
        assert trusted.register("s", '"int"').number == 1
        with pytest.raises(InfrastructureError) as caught:
            untrusted.register("s", '"int"')
        trusted.close()
        untrusted.close()
    assert caught.value.code == "schema_registry.untrusted"


def test_certificate_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:

    with pytest.raises(ConfigError, match=r"truststore.location cannot be used: No such file"):
        client("https://localhost:1", schema_registry_ssl_truststore_location=str(tmp_path / "no.pem"))


@pytest.mark.parametrize(
    "fault",
    [
        StatusFault(404, b"<html>not found</html>"),
        StatusFault(404, {"error_code": 404, "message": "HTTP 404 Not Found"}),
        StatusFault(200, b"<html>sign in</html>"),
        StatusFault(200, {"tagline": "You Know, for Search"}),
        StatusFault(200, b"[]"),
    ],
)
def test_another_server_is_not_taken_for_a_registry(proxy: HttpProxy, fault: StatusFault) -> None:
    """Its answers say nothing about records, so none is refused for them."""
    proxy.always(fault)
    asked = client(proxy.url)
    with pytest.raises(InfrastructureError) as caught:
        asked.schema(1)
    with pytest.raises(InfrastructureError):
        asked.register("s", '"int"')
    assert caught.value.code == "schema_registry.not_found"
    asked.close()


def test_a_refused_schema_is_explained(proxy: HttpProxy) -> None:
    proxy.always(StatusFault(422, {"error_code": 42201, "message": "Either the input schema is invalid"}))
    asked = client(proxy.url)
    with pytest.raises(TaskError) as caught:
        asked.register("s", '"int"')
    assert caught.value.code == "schema_registry.refused"
    assert "of 's' (HTTP 422: Either the input schema is invalid)" in str(caught.value)
    asked.close()


def test_a_subject_may_have_any_name(registry: FakeSchemaRegistry) -> None:
    asked = client(f"{registry.url}/")
    asked.register("a/b c?ö-value", '"int"')
    assert "a/b c?ö-value" in registry.subjects
    assert asked.schema(asked.latest("a/b c?ö-value").number).text == '"int"'
    asked.close()


def test_an_unknown_id_is_asked_for_again_after_a_time(registry: FakeSchemaRegistry) -> None:
    now = [0.0]
    config = AvroConverterConfig.parse({"schema.registry.url": registry.url})
    asked = SchemaRegistryClient(config, "AVRO", monotonic=lambda: now[0])
    number = len(registry.schemas) + 1
    for _ in range(2):
        with pytest.raises(DataError):
            asked.schema(number)
    assert registry.add("late", '{"type": "string", "late": true}') == number
    with pytest.raises(DataError):
        asked.schema(number)
    now[0] = 31.0
    assert "late" in asked.schema(number).text
    assert registry.requests.count(f"GET /schemas/ids/{number}") == 2
    asked.close()


def test_the_latest_version_that_is_known_is_used_during_an_outage(
    registry: FakeSchemaRegistry, proxy: HttpProxy
) -> None:
    now = [0.0]
    config = AvroConverterConfig.parse({"schema.registry.url": proxy.url, "latest.cache.ttl.sec": "60"})
    asked = SchemaRegistryClient(config, "AVRO", monotonic=lambda: now[0])
    old = registry.add("newest", '{"type": "int", "v": 1}')
    assert asked.latest("newest").number == old
    new = registry.add("newest", '{"type": "int", "v": 2}')
    now[0] = 59.0
    assert asked.latest("newest").number == old
    proxy.always(StatusFault(503))
    now[0] = 61.0
    requests = len(proxy.seen())
    assert [asked.latest("newest").number for _ in range(3)] == [old] * 3
    assert len(proxy.seen()) == requests + 2
    proxy.restore()
    now[0] = 92.0
    assert asked.latest("newest").number == new
    asked.close()


def test_caches_are_bounded(registry: FakeSchemaRegistry) -> None:
    numbers = [registry.add("many", f'{{"type": "int", "n": {number}}}') for number in range(4)]
    asked = client(registry.url, schemas_cache_config="2")
    for number in [*numbers, *numbers]:
        asked.schema(number)
    assert registry.requests.count(f"GET /schemas/ids/{numbers[0]}") == 2
    asked.close()
