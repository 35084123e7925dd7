"""``admin.listeners`` move the admin endpoints to ports of their own, or disable them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from headrace.errors import ConfigError
from headrace.registry import Registry
from headrace.rest.access_settings import rest_access
from headrace.rest.server import RestServer
from headrace.settings import WorkerSettings
from tests.engines.http import HTTP

ANY = "http://127.0.0.1:0"
Serve = Callable[[list[str] | None], RestServer]


@pytest.fixture
def serve(fake_worker: Any, registry: Registry) -> Iterator[Serve]:
    running: list[RestServer] = []

    def start(admin: list[str] | None) -> RestServer:
        running.append(RestServer([ANY], admin_listeners=admin))
        running[-1].bind()
        running[-1].start(fake_worker, registry)
        return running[-1]

    yield start
    for each in running:
        each.stop()


def status(url: str, path: str) -> int:
    return HTTP.get(url + path).status_code


def test_without_the_key_all_listeners_serve_everything(serve: Serve) -> None:
    (url,) = serve(None).urls
    assert (status(url, "/admin/loggers"), status(url, "/connectors")) == (200, 200)


def test_admin_endpoints_are_on_their_own_listener_only(serve: Serve) -> None:
    common, admin = serve([ANY]).urls
    assert (status(common, "/admin/loggers"), status(common, "/connectors"), status(common, "/health")) == (
        404,
        200,
        200,
    )
    assert (status(admin, "/admin/loggers"), status(admin, "/connectors"), status(admin, "/health")) == (200, 404, 404)
    assert HTTP.get(f"{common}/admin/loggers").json()["error_code"] == 404


def test_an_empty_key_disables_the_admin_endpoints(serve: Serve) -> None:
    (url,) = serve([]).urls
    assert (status(url, "/admin/loggers"), status(url, "/admin/loggers/root"), status(url, "/")) == (404, 404, 200)
    assert HTTP.put(f"{url}/admin/loggers/root", json={"level": "OFF"}).status_code == 404


def test_an_admin_listener_for_other_machines_requires_authentication_too() -> None:
    settings = WorkerSettings.parse({"bootstrap.servers": "x:1", "admin.listeners": "http://0.0.0.0:9090"})
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        rest_access(settings)


@pytest.mark.parametrize("text", ["ftp://x", "http://"])
def test_an_invalid_admin_listener_is_reported_with_its_key(text: str) -> None:
    settings = WorkerSettings.parse({"bootstrap.servers": "x:1", "admin.listeners": f"{text}:nothing"})
    with pytest.raises(ConfigError, match=r"for configuration admin\.listeners"):
        rest_access(settings)
