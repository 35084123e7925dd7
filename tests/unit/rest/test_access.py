"""Access of every role to every method of every route, generated from the routes: a new route needs a rule."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from headrace.errors import NotFoundError
from headrace.registry import Registry
from headrace.rest.access import RULES, Role
from headrace.rest.access_settings import RestAccess
from headrace.rest.app import all_routes
from headrace.rest.authentication import Authenticator
from headrace.rest.handlers import resource
from headrace.rest.passwords import hash_token
from headrace.rest.server import RestServer
from tests.engines.http import HTTP

DOCS = Path(__file__).parents[3] / "docs" / "security.md"
VARIABLES = {"{name}": "a", "{task:int}": "0", "{logger}": "root", "{plugin}": "AcmeSource", "{store}": "s"} | {
    "{key}": "7"
}
TOKENS = {role: f"token-of-{role.word}" for role in Role}
CASES = [(method, path) for path, methods in RULES.items() for method in methods]


class NoDeadLetters:
    """A dead letter service without any queue."""

    def __getattr__(self, name: str) -> Any:
        def missing(*arguments: Any, **named: Any) -> None:
            raise NotFoundError("no queue")

        return missing


@pytest.fixture(scope="module")
def guarded(fake_worker: Any, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RestServer]:
    """A server that knows one token of each role."""
    users = tmp_path_factory.mktemp("users") / "users"
    lines = [f"{role.word}-user {role.word} {hash_token(token)}\n" for role, token in TOKENS.items()]
    users.write_text("".join(lines))
    running = RestServer(["http://127.0.0.1:0"], access=RestAccess(Authenticator(users)))
    running.bind()
    running.start(fake_worker, registry, NoDeadLetters())  # type: ignore[arg-type]
    yield running
    running.stop()


def answer(server: RestServer, method: str, path: str, role: Role | None) -> httpx.Response:
    for name, text in VARIABLES.items():
        path = path.replace(name, text)
    headers = {"Authorization": f"Bearer {TOKENS[role]}"} if role is not None else {}
    return HTTP.request(method, server.url + path, headers=headers, timeout=30)


def test_every_method_of_every_route_has_a_rule(fake_worker: Any, registry: Registry) -> None:
    routes = all_routes(fake_worker, registry, NoDeadLetters())  # type: ignore[arg-type]
    found = {
        (method, route.path)
        for route in routes
        for method in route.methods or ()
        if method not in ("HEAD", "OPTIONS")  # HEAD is GET, OPTIONS tells the methods only
    }
    assert found == set(CASES)


def test_a_route_without_a_rule_cannot_be_created() -> None:
    with pytest.raises(LookupError, match="GET /connectors/new has no rule"):
        resource("/connectors/new", get=lambda request: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(LookupError, match="PATCH /connectors has no rule"):
        resource("/connectors", patch=lambda request: None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(("method", "path"), CASES)
def test_a_route_allows_only_the_roles_of_its_rule(guarded: RestServer, worker: Any, method: str, path: str) -> None:
    required = RULES[path][method]
    for role in (None, *Role):
        worker.reset()
        worker.add("a")
        got = answer(guarded, method, path, role)
        if required is not None and role is None:
            assert (got.status_code, got.json()["code"]) == (401, "auth.required")
        elif required is not None and role is not None and role < required:
            assert (got.status_code, got.json()["code"]) == (403, "auth.forbidden")
            assert f"requires the role {required.word}" in got.json()["message"]
        else:
            assert got.status_code not in (401, 403)


def test_viewers_see_no_configuration_in_the_list_of_connectors(guarded: RestServer, worker: Any) -> None:
    worker.add("a", secret="x")
    assert answer(guarded, "GET", "/connectors?expand=status", Role.VIEWER).status_code == 200
    refused = answer(guarded, "GET", "/connectors?expand=status&expand=info", Role.VIEWER)
    assert (refused.status_code, refused.json()["code"]) == (403, "auth.forbidden")
    assert answer(guarded, "GET", "/connectors?expand=info", Role.OPERATOR).status_code == 200


def test_head_and_options_reveal_nothing(guarded: RestServer, worker: Any) -> None:
    worker.add("a")
    with closing(answer(guarded, "HEAD", "/connectors/a/config", Role.VIEWER)) as refused:
        assert refused.status_code == 403
    assert answer(guarded, "OPTIONS", "/connectors/a/config", None).content == b""


def test_the_documentation_has_the_same_table() -> None:
    rows = re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \| (\w+) \|", DOCS.read_text(encoding="utf-8"), re.M)
    documented = {(method, path): role for method, path, role in rows}
    rules = {
        (method, path.replace(":int", "")): "public" if role is None else role.word
        for path, methods in RULES.items()
        for method, role in methods.items()
    }
    assert documented == rules
