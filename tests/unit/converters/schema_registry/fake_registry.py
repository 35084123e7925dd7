"""A local server with the parts of a schema registry's API that our converters and Confluent's clients use.

It gives ids as a registry does: equal schemas have one id. Tests may let it refuse schemas.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

_FIRST_GUID = 0x9E2E5CB7_0000_4000_8000_000000000000


class FakeSchemaRegistry:
    """Schemas by id, and the ids of the versions of each subject."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.requests: list[str] = []
        """Method and path of every request."""
        self.incompatible: set[str] = set()
        """Subjects that accept no new schema."""
        self.authorization: str | None = None
        """The only value of the header that is accepted; None = any."""
        self.has_guids = True
        self.url = ""

    def add(self, subject: str, schema: Any, references: Any = (), kind: str = "AVRO") -> int:
        """Register a schema, given as JSON or as its text; return its id."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        return self._register(subject, {"schema": text, "references": list(references), "schemaType": kind})

    def text(self, subject: str, version: int = -1) -> Any:
        """Return a version of a subject as JSON."""
        return json.loads(self.schemas[self.subjects[subject][version]]["schema"])

    def require(self, user: str, password: str) -> None:
        """Answer 401 to all requests without these credentials."""
        self.authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def answer(self, method: str, path: str, body: dict[str, Any], authorization: str | None) -> tuple[int, Any]:
        """Return the status and the JSON of the answer to a request."""
        self.requests.append(f"{method} {path}")
        if self.authorization is not None and authorization != self.authorization:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        match [unquote(part) for part in urlsplit(path).path.strip("/").split("/")], method:
            case ["schemas", "ids", number], "GET":
                found = self.schemas.get(int(number))
                return _or(found, 40403, "Schema not found")
            case ["schemas", "guids", guid], "GET":
                return _or(self.schemas.get(UUID(guid).int - _FIRST_GUID), 40403, "Schema not found")
            case ["subjects", subject, "versions", version], "GET":
                return self._version(subject, version)
            case ["subjects", subject, "versions"], "POST":
                if subject in self.incompatible:
                    return 409, {"error_code": 409, "message": "Schema being registered is incompatible"}
                made = self._register(subject, body)
                return 200, {"id": made, **self._guid(made)}
            case ["subjects", subject], "POST":
                return self._lookup(subject, body)
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _register(self, subject: str, given: dict[str, Any]) -> int:
        schema: dict[str, Any] = {"schema": given["schema"]}
        if given.get("references"):
            schema["references"] = given["references"]
        if given.get("schemaType", "AVRO") != "AVRO":
            schema["schemaType"] = given["schemaType"]
        equal = (number for number, known in self.schemas.items() if _parsed(known) == _parsed(schema))
        number = next(equal, len(self.schemas) + 1)
        self.schemas.setdefault(number, schema)
        versions = self.subjects.setdefault(subject, [])
        if number not in versions:
            versions.append(number)
        return number

    def _described(self, subject: str, place: int, number: int) -> dict[str, Any]:
        return {"subject": subject, "version": place, "id": number, **self._guid(number), **self.schemas[number]}

    def _guid(self, number: int) -> dict[str, str]:
        return {"guid": str(UUID(int=_FIRST_GUID + number))} if self.has_guids else {}

    def _version(self, subject: str, version: str) -> tuple[int, Any]:
        versions = self.subjects.get(subject)
        if versions is None:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        place = len(versions) if version == "latest" else int(version)
        if not 1 <= place <= len(versions):
            return 404, {"error_code": 40402, "message": "Version not found."}
        return 200, self._described(subject, place, versions[place - 1])

    def _lookup(self, subject: str, body: dict[str, Any]) -> tuple[int, Any]:
        if subject not in self.subjects:
            return 404, {"error_code": 40401, "message": f"Subject '{subject}' not found."}
        for place, number in enumerate(self.subjects[subject], 1):
            if _parsed(self.schemas[number])["schema"] == _parsed(body)["schema"]:
                return 200, {
                    "subject": subject,
                    "version": place,
                    "id": number,
                    **self._guid(number),
                    **self.schemas[number],
                }
        return 404, {"error_code": 40403, "message": "Schema not found"}


def _parsed(schema: dict[str, Any]) -> dict[str, Any]:
    return schema if schema.get("schemaType") == "PROTOBUF" else {**schema, "schema": json.loads(schema["schema"])}


def _or(found: Any, code: int, message: str) -> tuple[int, Any]:
    return (200, found) if found is not None else (404, {"error_code": code, "message": message})


@contextmanager
def served(registry: FakeSchemaRegistry, tls: ssl.SSLContext | None = None) -> Iterator[FakeSchemaRegistry]:
    """Serve it at ``url``, over TLS with a server context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            body = json.loads(content) if content else {}
            status, answer = registry.answer(self.command, self.path, body, self.headers.get("authorization"))
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore clients that refuse the certificate."""

    server = Server(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    host = "localhost" if tls is not None else "127.0.0.1"
    registry.url = f"{'https' if tls is not None else 'http'}://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
