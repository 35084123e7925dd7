"""A server that takes what workers report to Elasticsearch."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson


class FakeElasticsearch:
    """Keeps documents by stream; ``failing`` is the status of every answer while it is set."""

    def __init__(self) -> None:
        self.documents: list[tuple[str, dict[str, Any]]] = []
        self.templates: dict[str, dict[str, Any]] = {}
        self.failing = 0
        self.authorization: set[str | None] = set()
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                fake.templates[self.path.rpartition("/")[2]] = orjson.loads(self._body())
                self._answer({"acknowledged": True})

            def do_POST(self) -> None:
                lines = self._body().splitlines()
                items = []
                if not fake.failing:
                    for action, source in zip(lines[::2], lines[1::2], strict=True):
                        fake.documents.append((orjson.loads(action)["create"]["_index"], orjson.loads(source)))
                        items.append({"create": {"status": 201}})
                self._answer({"items": items})

            def _body(self) -> bytes:
                fake.authorization.add(self.headers["Authorization"])
                return self.rfile.read(int(self.headers["Content-Length"]))

            def _answer(self, body: dict[str, Any]) -> None:
                content = orjson.dumps(body)
                self.send_response(fake.failing or 200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))
        self._thread.start()

    def kinds(self) -> set[str]:
        return {document["kind"] for _, document in self.documents}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()
