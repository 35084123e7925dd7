"""Requests to a schema registry (https://docs.confluent.io/platform/current/schema-registry/develop/api.html).

The only user of ``httpx`` among the converters. Schemas and ids never change once they exist, so they are asked for
once; the latest version of a subject, and that an id is unknown, are remembered for a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import httpx
import orjson

from headrace import (
    DataError,
    InfrastructureError,
    RetriableError,
    RetryPolicy,
    TaskError,
    retry,
)
from headrace.converters.schema_registry.caches import with_room
from headrace.converters.schema_registry.configuration import SchemaRegistryConfig
from headrace.converters.schema_registry.registry_access import credentials, tls_context, without_user

_AVRO = "AVRO"
"""The kind of schemas whose kind the registry does not say."""
_MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
_ACCEPT = f"{_MEDIA_TYPE}, application/vnd.schemaregistry+json, application/json"
_RETRIES = RetryPolicy(first=0.1, longest=0.5, tries=1)
"""For a connection that was closed meanwhile. An outage is waited for by the task, which can be stopped meanwhile."""
_UNAVAILABLE = frozenset({408, 429, 500, 502, 503, 504})
_NO_SUBJECT, _NO_VERSION, _NO_SCHEMA = 40401, 40402, 40403
_ASK_AGAIN_SECONDS = 30.0


class SchemaReference(NamedTuple):
    """A schema that another one refers to by a name."""

    name: str
    text: str


class SchemaText(NamedTuple):
    """A schema as the registry has it, and the schemas that it refers to, each after those that it needs itself."""

    text: str
    references: tuple[SchemaReference, ...] = ()


class RegisteredId(NamedTuple):
    """By what records name a schema; ``guid`` only if the registry told it."""

    number: int
    guid: bytes | None = None


class SchemaRegistryClient:
    """Asks a registry that has one or several addresses. Used from one thread.

    Methods raise RetriableError when no address answers, InfrastructureError when the registry refuses the credentials
    or is no registry, TaskError when it refuses a schema.
    """

    def __init__(
        self, config: SchemaRegistryConfig, kind: str, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """Open no connection yet; ``kind`` is that of all schemas. Raise ConfigError for a file that cannot be used."""
        self._kind = kind
        self._urls = [without_user(url) for url in config.urls]
        self._auth = [credentials(url, config) for url in config.urls]
        self.address = ", ".join(self._urls)
        self._normalize = "?normalize=true" if config.normalize else ""
        self._ttl = config.latest_ttl
        self._limit = config.cache_size
        self._monotonic = monotonic
        headers = {"accept": _ACCEPT}
        if config.bearer_token is not None:
            headers["authorization"] = f"Bearer {config.bearer_token.get_secret_value()}"
        timeout = httpx.Timeout(config.read_timeout / 1000, connect=config.connect_timeout / 1000)
        secure = any(url.startswith("https:") for url in self._urls)
        self._http = httpx.Client(
            headers=headers, timeout=timeout, trust_env=False, verify=tls_context(config) if secure else False
        )
        self._schemas: dict[int | bytes, SchemaText] = {}
        self._unknown: dict[int | bytes, float] = {}
        self._ids: dict[tuple[str, str, bool], RegisteredId] = {}
        self._latest: dict[str, tuple[float, RegisteredId]] = {}

    def close(self) -> None:
        self._http.close()

    def schema(self, key: int | bytes) -> SchemaText:
        """Return the schema with this id or GUID. Raise DataError when there is none."""
        if key not in self._schemas:
            if self._monotonic() < self._unknown.get(key, 0.0):
                raise self._unknown_id(key)
            path = f"/schemas/ids/{key}" if isinstance(key, int) else f"/schemas/guids/{UUID(bytes=key)}"
            answer = self._ask("GET", path, (_NO_SCHEMA,))
            if answer is None:
                with_room(self._unknown, self._limit)[key] = self._monotonic() + _ASK_AGAIN_SECONDS
                raise self._unknown_id(key)
            text = self._schema_text(answer, f"the schema with the {_shown(key)}")
            with_room(self._schemas, self._limit)[key] = text
        return self._schemas[key]

    def register(self, subject: str, text: str) -> RegisteredId:
        """Return the id of a schema of the subject, which is registered when it is new."""
        return self._id(subject, text, registers=True)

    def find(self, subject: str, text: str) -> RegisteredId:
        """Return the id of a schema of the subject. Raise TaskError when it is not registered."""
        return self._id(subject, text, registers=False)

    def latest(self, subject: str) -> RegisteredId:
        """Return the latest version of the subject, whose schema is known then. Raise TaskError when there is none."""
        until, known = self._latest.get(subject, (0.0, None))
        if known is None or (self._ttl >= 0 and self._monotonic() >= until):
            path = f"/subjects/{quote(subject, safe='')}/versions/latest"
            wait = float(self._ttl)
            try:
                answer = self._ask("GET", path, (_NO_SUBJECT, _NO_VERSION))
            except RetriableError:
                if known is None:
                    raise
                wait = min(wait, _ASK_AGAIN_SECONDS)  # the version that is known is as good as a moment ago
            else:
                if answer is None:
                    raise self._not_registered(subject)
                known = self._registered(answer, path)
                if known.number not in self._schemas:
                    text = self._schema_text(answer, f"the latest version of the subject '{subject}'")
                    with_room(self._schemas, self._limit)[known.number] = text
            with_room(self._latest, self._limit)[subject] = (self._monotonic() + wait, known)
        return known

    def guid(self, found: RegisteredId) -> bytes:
        """Return the GUID of a schema. Raise TaskError when the registry has none."""
        if found.guid is not None:
            return found.guid
        path = f"/schemas/ids/{found.number}"
        guid = self._guid(self._ask("GET", path, (_NO_SCHEMA,)) or {}, path)
        if guid is None:
            raise TaskError(
                f"the schema registry at {self.address} has no GUIDs, by which headers name schemas",
                code="schema_registry.no_guid",
                hint="remove key.schema.id.serializer and value.schema.id.serializer, or use a registry that has GUIDs",
            )
        return guid

    def _id(self, subject: str, text: str, *, registers: bool) -> RegisteredId:
        known = (subject, text, registers)
        if known not in self._ids:
            path = f"/subjects/{quote(subject, safe='')}{'/versions' if registers else ''}{self._normalize}"
            body = {"schema": text} if self._kind == _AVRO else {"schema": text, "schemaType": self._kind}
            answer = self._ask("POST", path, (_NO_SUBJECT, _NO_SCHEMA), body, subject)
            if answer is None:
                raise self._not_registered(subject)
            with_room(self._ids, self._limit)[known] = self._registered(answer, path)
        return self._ids[known]

    def _schema_text(self, answer: dict[str, Any], what: str) -> SchemaText:
        kind = answer.get("schemaType", _AVRO)
        if kind != self._kind:
            raise DataError(
                f"{what} is of the type {kind}, not {self._kind}",
                code="schema_registry.other_type",
                hint="use the converter of this type",
            )
        found: dict[tuple[str, str, int], SchemaReference] = {}
        self._collect(answer, found)
        return SchemaText(self._text(answer), tuple(found.values()))

    def _collect(
        self, answer: dict[str, Any], found: dict[tuple[str, str, int], SchemaReference], depth: int = 0
    ) -> None:
        """Add the schemas that a schema refers to, those first that the others need."""
        for reference in answer.get("references") or ():
            try:
                name, subject = str(reference["name"]), str(reference["subject"])
                version = int(reference["version"])
            except (KeyError, TypeError, ValueError) as error:
                raise self._no_registry("a reference of a schema has no name, subject or version") from error
            if (name, subject, version) in found:
                continue
            path = f"/subjects/{quote(subject, safe='')}/versions/{version}"
            referred = self._ask("GET", path, (_NO_SUBJECT, _NO_VERSION)) if depth < _DEEPEST else None
            if referred is None:
                raise DataError(
                    f"a schema refers to version {version} of the subject '{subject}', which does not exist",
                    code="schema_registry.unknown_reference",
                )
            self._collect(referred, found, depth + 1)
            found[name, subject, version] = SchemaReference(name, self._text(referred))

    def _ask(
        self, method: str, path: str, absent: tuple[int, ...], body: dict[str, Any] | None = None, subject: str = ""
    ) -> dict[str, Any] | None:
        """Return the JSON object of an answer; None when the registry's error is one of ``absent``."""
        response = retry(lambda: self._send(method, path, body), policy=_RETRIES)
        answer = _json_object(response.content)
        if response.is_success:
            if answer is None:
                raise self._no_registry(f"the answer to {method} {path} is not JSON")
            return answer
        code, reason = (answer or {}).get("error_code"), _reason(answer)
        if code in absent:
            return None
        status = response.status_code
        if status in (401, 403):
            raise InfrastructureError(
                f"the schema registry at {self.address} refuses access to {path} (HTTP {status}{reason})",
                code="schema_registry.access_denied",
                hint="check basic.auth.user.info, or grant the user read and write on the subject",
            )
        if code in (None, 404):  # the second: of the server below a registry, for a path that it does not have
            raise self._no_registry(f"the answer to {method} {path} is HTTP {status}{reason}")
        raise self._refused(status, reason, f"a schema of '{subject}'" if subject else f"{method} {path}")

    def _refused(self, status: int, reason: str, what: str) -> TaskError:
        incompatible = status == 409
        return TaskError(
            f"the schema registry at {self.address} refuses {what} (HTTP {status}{reason})",
            code="schema_registry.incompatible" if incompatible else "schema_registry.refused",
            hint="change the records so that their schema is compatible, or the compatibility level of the subject; "
            "then restart the task"
            if incompatible
            else "fix what it names, then restart the task",
        )

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """Send to the address that answered last, then to the others. Return the first answer of a working registry."""
        content = orjson.dumps(body) if body is not None else None
        headers = {"content-type": _MEDIA_TYPE} if content is not None else {}
        problem = ""
        for _ in range(len(self._urls)):
            try:
                response = self._http.request(
                    method, self._urls[0] + path, content=content, headers=headers, auth=self._auth[0]
                )
            except httpx.HTTPError as error:
                if "CERTIFICATE_VERIFY_FAILED" in str(error):
                    raise InfrastructureError(
                        f"the certificate of the schema registry at {self._urls[0]} is not trusted: {error}",
                        code="schema_registry.untrusted",
                        hint="set schema.registry.ssl.truststore.location to the certificates (PEM) of its authority",
                    ) from error
                problem = str(error) or type(error).__name__
            else:
                if response.status_code not in _UNAVAILABLE:
                    return response
                problem = f"HTTP {response.status_code}{_reason(_json_object(response.content))}"
            self._urls.append(self._urls.pop(0))
            self._auth.append(self._auth.pop(0))
        raise RetriableError(
            f"the schema registry at {self.address} is unavailable: {problem}",
            code="schema_registry.unavailable",
            hint="start it, or check schema.registry.url",
        )

    def _text(self, answer: dict[str, Any]) -> str:
        text = answer.get("schema")
        if not isinstance(text, str):
            raise self._no_registry("a schema has no text")
        return text

    def _registered(self, answer: dict[str, Any], path: str) -> RegisteredId:
        number = answer.get("id")
        if type(number) is not int or not 0 <= number < 1 << 31:
            raise self._no_registry(f"the answer to {path} has no id")
        return RegisteredId(number, self._guid(answer, path))

    def _guid(self, answer: dict[str, Any], path: str) -> bytes | None:
        written = answer.get("guid")
        if written is None:
            return None
        try:
            return UUID(written).bytes
        except (ValueError, TypeError, AttributeError) as error:
            raise self._no_registry(f"the GUID in the answer to {path} is none") from error

    def _no_registry(self, reason: str) -> InfrastructureError:
        return InfrastructureError(
            f"there is no schema registry at {self.address}: {reason}",
            code="schema_registry.not_found",
            hint="check schema.registry.url, with its path (Apicurio: /apis/ccompat/v7)",
        )

    def _unknown_id(self, key: int | bytes) -> DataError:
        return DataError(
            f"the schema registry at {self.address} has no schema with the {_shown(key)}",
            code="schema_registry.unknown_id",
            hint="use the registry that the producer uses, or restore its topic of schemas",
        )

    def _not_registered(self, subject: str) -> TaskError:
        return TaskError(
            f"the schema registry at {self.address} does not have this schema in the subject '{subject}'",
            code="schema_registry.not_registered",
            hint="register it, or set auto.register.schemas: true; then restart the task",
        )


_DEEPEST = 50
"""Levels of references; a registry does not accept a circle."""


def _shown(key: int | bytes) -> str:
    return f"id {key}" if isinstance(key, int) else f"GUID {UUID(bytes=key)}"


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        answer = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return answer if isinstance(answer, dict) else None


def _reason(answer: dict[str, Any] | None) -> str:
    message = (answer or {}).get("message")
    return f": {message}" if isinstance(message, str) and message else ""
