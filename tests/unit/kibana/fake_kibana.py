"""A local server with the parts of Kibana's API that ``headrace kibana`` uses.

It refuses what Kibana refuses: objects that are newer than the server, attributes that their schema does not have,
references to data views that do not exist, ids that are taken, rule ids that are no UUID of version 1 or 4, and
requests without ``kbn-xsrf``. Its knowledge of versions and attributes is its own, not that of the product.
"""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

MODEL_VERSIONS = {
    "8.19": {"dashboard": "10.3.0", "index-pattern": "8.0.0", "search": "10.5.0", "tag": "8.0.0"},
    "9.1": {"dashboard": "10.3.0", "index-pattern": "8.0.0", "search": "10.6.0", "tag": "8.0.0"},
    "9.5": {"dashboard": "10.4.0", "index-pattern": "8.0.0", "search": "10.6.0", "tag": "8.0.0"},
}
"""The newest versions of types that a server knows."""
_ATTRIBUTES = {
    "dashboard": "title description kibanaSavedObjectMeta timeRestore timeFrom timeTo refreshInterval "
    "controlGroupInput panelsJSON optionsJSON hits version sections",
    "index-pattern": "title name timeFieldName sourceFilters fields fieldAttrs fieldFormatMap runtimeFieldMap "
    "allowHidden allowNoIndex type typeMeta",
    "search": "title description columns sort grid hideChart isTextBasedQuery timeRestore kibanaSavedObjectMeta tabs",
    "tag": "name description color",
}
Key = tuple[str, str]


class FakeKibana:
    """Saved objects by type and id, and rules by id, of each space."""

    def __init__(self, version: str = "8.19.9") -> None:
        self.version = version
        self.spaces: dict[str, dict[Key, dict[str, Any]]] = {}
        self.rules: dict[str, dict[str, dict[str, Any]]] = {}
        self.writes: list[str] = []
        """Of every request that changes something: method and path."""
        self.authorization: str | None = None
        """The only value of the header that is accepted; None = any."""
        self.status_failures: list[int] = []
        """Status codes of the next answers to a request for the status."""
        self.migrate: Callable[[dict[str, Any]], dict[str, Any]] = lambda item: item
        """What the server does to objects that it stores."""
        self.encryption_key = True
        self.hides_version = False
        """As a server with security does for a request without credentials."""
        self.url = ""

    def objects(self, space: str = "default") -> dict[Key, dict[str, Any]]:
        return self.spaces.setdefault(space, {})

    def rules_of(self, space: str = "default") -> dict[str, dict[str, Any]]:
        return self.rules.setdefault(space, {})

    def find(self, kind: str, space: str = "default") -> list[dict[str, Any]]:
        return [item for (each, _), item in self.objects(space).items() if each == kind]

    @contextmanager
    def serving(self) -> Iterator[FakeKibana]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, content = fake.respond(self.command, self.path, dict(self.headers), body)
                text = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *arguments: object) -> None:
                pass

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            self.url = f"http://127.0.0.1:{server.server_address[1]}"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield self
            finally:
                server.shutdown()
                thread.join()

    def respond(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        names = {name.lower(): value for name, value in headers.items()}
        if self.authorization is not None and names.get("authorization") != self.authorization:
            return 401, {"statusCode": 401, "message": "[security_exception] missing authentication credentials"}
        parts = urlsplit(target)
        path, query = parts.path, parse_qs(parts.query)
        if path == "/api/status":
            if self.status_failures:
                return self.status_failures.pop(0), {"message": "Kibana server is not ready yet"}
            shown = {} if self.hides_version else {"version": {"number": self.version}}
            return 200, {"status": {"overall": {"level": "available"}}, **shown}
        if method != "GET" and "kbn-xsrf" not in names:
            return 400, {"statusCode": 400, "message": "Request must contain a kbn-xsrf header."}
        space = "default"
        if found := re.match(r"/s/([^/]+)(/.*)", path):
            space, path = unquote(found[1]), found[2]
        if method != "GET" and not path.endswith("/_export"):
            self.writes.append(f"{method} {path}")
        return self._route(method, path, query, space, body)

    def _route(self, method: str, path: str, query: dict[str, list[str]], space: str, body: bytes) -> tuple[int, Any]:
        match method, path.removeprefix("/api/").split("/"):
            case "POST", ["saved_objects", "_export"]:
                return 200, self._export(space, json.loads(body))
            case "POST", ["saved_objects", "_import"]:
                lines = re.findall(rb"^\{.*\}\r?$", body, re.MULTILINE)
                overwrite = query["overwrite"] == ["true"]
                return 200, self._import(space, [json.loads(line) for line in lines], overwrite=overwrite)
            case "DELETE", ["data_views", "data_view", ident]:
                return self._delete(space, "index-pattern", ident)
            case "DELETE", ["dashboards", ident] if self.version.startswith("9.5"):
                return self._delete(space, "dashboard", ident)
            case "DELETE", ["saved_objects", kind, ident]:
                return self._delete(space, kind, ident)
            case "GET", ["alerting", "rules", "_find"]:
                tag = re.findall(r'"(.*)"', query["filter"][0])[0]
                return 200, {"data": [rule for rule in self.rules_of(space).values() if tag in rule["tags"]]}
            case _, ["alerting", "rule", ident]:
                return self._rule(method, space, ident, json.loads(body) if body else {})
        return 404, {"statusCode": 404, "message": f"no route {method} {path}"}

    def _delete(self, space: str, kind: str, ident: str) -> tuple[int, Any]:
        gone = self.objects(space).pop((kind, ident), None)
        return (200, {}) if gone else (404, {"message": "Not Found"})

    def _referencing(self, space: str, kind: str, ident: str, types: list[str]) -> list[dict[str, Any]]:
        return [
            item
            for item in self.objects(space).values()
            if item["type"] in types
            and any(each["type"] == kind and each["id"] == ident for each in item["references"])
        ]

    def _export(self, space: str, request: dict[str, Any]) -> bytes:
        if tag := request.get("hasReference"):
            found = self._referencing(space, tag["type"], tag["id"], request["type"])
        else:
            found = [item for item in self.objects(space).values() if item["type"] in request["type"]]
        added = {"updated_at": "2026-11-30T12:00:00.000Z", "version": "WzEsMV0="}
        return "\n".join(json.dumps({**item, **added}) for item in found).encode()

    def _import(self, space: str, items: list[dict[str, Any]], *, overwrite: bool) -> dict[str, Any]:
        errors = []
        sent = {(item["type"], item["id"]) for item in items}
        for item in items:
            problem = self._problem(space, item, sent, overwrite=overwrite)
            if problem is not None:
                errors.append({"type": item["type"], "id": item["id"], "error": problem})
        if not errors:
            for item in items:
                self.objects(space)[item["type"], item["id"]] = self.migrate(json.loads(json.dumps(item)))
        return {"success": not errors, "successCount": 0 if errors else len(items), "errors": errors}

    def _problem(self, space: str, item: dict[str, Any], sent: set[Key], *, overwrite: bool) -> dict[str, Any] | None:
        kind, key = item["type"], (item["type"], item["id"])
        newest = MODEL_VERSIONS[".".join(self.version.split(".")[:2])]
        if kind not in newest:
            return {"type": "unsupported_type"}
        if _version(item["typeMigrationVersion"]) > _version(newest[kind]):
            return {"type": "unknown", "message": f"Document {item['id']} belongs to a more recent version of Kibana"}
        if unknown := item["attributes"].keys() - set(_ATTRIBUTES[kind].split()):
            names = ", ".join(sorted(unknown))
            return {"type": "unknown", "message": f"[attributes.{names}]: definition for this key is missing"}
        others = [name for name, objects in self.spaces.items() if name != space and key in objects]
        if others or (key in self.objects(space) and not overwrite):
            return {"type": "conflict"}
        missing = [
            each
            for each in item["references"]
            if each["type"] == "index-pattern"
            and (each["type"], each["id"]) not in sent
            and (each["type"], each["id"]) not in self.objects(space)
        ]
        return {"type": "missing_references", "references": missing} if missing else None

    def _rule(self, method: str, space: str, ident: str, body: dict[str, Any]) -> tuple[int, Any]:
        rules = self.rules_of(space)
        if method == "POST":
            if not self.encryption_key:
                return 500, {"message": "Unable to create alerts client: missing encryption key"}
            if uuid.UUID(ident).version not in (1, 4):
                return 400, {"message": "Predefined IDs are not allowed for saved objects with encrypted attributes"}
            if ident in rules:
                return 409, {"message": "conflict"}
            rules[ident] = {"id": ident, **body, "mute_all": False}
            return 200, rules[ident]
        if ident not in rules:
            return 404, {"message": f"Saved object [alert/{ident}] not found"}
        if method == "PUT":
            if unknown := body.keys() - {"name", "schedule", "params", "actions", "tags", "throttle", "notify_when"}:
                return 400, {"message": f"[request body.{min(unknown)}]: definition for this key is missing"}
            rules[ident] |= body
        if method == "DELETE":
            del rules[ident]
            return 200, {}
        return 200, rules[ident]


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
