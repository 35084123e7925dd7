"""A real Elasticsearch node, 8 or 9: the published server jars, its HTTP module, and our main class (``java/``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

from headrace.embedded.artifacts import Jar, locked
from headrace.embedded.engine import Engine
from headrace.embedded.jars import fetch
from headrace.embedded.java import java_command
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import HOST, free_port

_JAVA = Path(__file__).parent / "java"
_CLUSTER = "headrace"
_HTTP = "transport-netty4"
_LOGGING = """\
status = error
rootLogger.level = info
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d{ISO8601}][%-5p][%c{1.}] %m%n
"""


class Elasticsearch(Engine):
    """One node without security. ``settings`` are keys for ``elasticsearch.yml``; a small write queue gives 429:
    ``{"thread_pool.write.queue_size": 1, "thread_pool.write.size": 1}``.

    It has what is published on Maven Central: bulk, versions, mappings, templates, data streams, aliases, PIT,
    aggregations. It has no Painless, reindex, delete-by-query, ingest processors, ILM, language analyzers, ES|QL.

    ``major`` is 8 or 9. Several nodes form a cluster by their transport ports and different values of ``node_name``:
    ``{"discovery.type": "multi-node", "discovery.seed_hosts": ["127.0.0.1:9300"], …}``.
    """

    name = "elasticsearch"
    title = "Elasticsearch"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        heap: str = "768m",
        settings: Mapping[str, str | int | bool | list[str]] | None = None,
        major: Literal[8, 9] = 8,
        node_name: str = _CLUSTER,
    ) -> None:
        super().__init__(folder, port)
        self.transport_port = free_port()
        """Port on which other nodes of a cluster reach this one."""
        self._locked, self._node_name = locked("elasticsearch" if major == 8 else f"elasticsearch-{major}"), node_name
        self._heap, self._settings = heap, dict(settings or {})

    @property
    def jars(self) -> tuple[Jar, ...]:
        """The jars of this version."""
        return self._locked.jars

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def version(self) -> str:
        return self._locked.version

    @property
    def log_path(self) -> Path:
        return self.folder / "node.log"

    def prepare(self) -> None:
        for name in ("config", "plugins", "tmp"):
            (self.folder / name).mkdir(exist_ok=True)
        settings: dict[str, str | int | bool | list[str]] = {
            "cluster.name": _CLUSTER,
            "node.name": self._node_name,
            "discovery.type": "single-node",
            "network.host": HOST,
            "http.port": self.port,
            "transport.port": self.transport_port,
            "http.type": "netty4",
            "transport.type": "netty4",
            # A laptop's disk is often fuller than the watermarks allow.
            "cluster.routing.allocation.disk.threshold_enabled": False,
            # This breaker counts garbage. The serial collector does not run while all requests are refused, so the node
            # would refuse them for ever.
            "indices.breaker.total.use_real_memory": False,
            **self._settings,
        }
        # JSON values are YAML values.
        lines = [f"{key}: {json.dumps(value)}" for key, value in settings.items()]
        (self.folder / "config" / "elasticsearch.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        (self.folder / "config" / "log4j2.properties").write_text(_LOGGING, encoding="utf-8")
        self._write_modules()

    def _write_modules(self) -> None:
        """Write ``modules/<name>/`` with jars and a descriptor each, at every start: the version may have changed."""
        modules = self.folder / "modules"
        shutil.rmtree(modules, ignore_errors=True)
        http, root = modules / _HTTP, modules / "root-endpoint"
        http.mkdir(parents=True)
        root.mkdir()
        for jar in fetch(self._http_jars()):
            shutil.copyfile(jar, http / jar.name)
            if jar.name.startswith(_HTTP):
                with ZipFile(jar) as archive:
                    descriptor = archive.read(f"META-INF/es-plugins/{_HTTP}/plugin-descriptor.properties")
                (http / "plugin-descriptor.properties").write_bytes(descriptor)
        shutil.copyfile(_JAVA / "elasticsearch-root.jar", root / "elasticsearch-root.jar")
        (root / "plugin-descriptor.properties").write_text(
            f"name=root-endpoint\ndescription=Answers GET /\nversion={self.version}\n"
            f"elasticsearch.version={self.version}\njava.version=17\nclassname=headrace.root.RootEndpoint\n",
            encoding="utf-8",
        )

    def command(self) -> list[str]:
        http = set(self._http_jars())
        server = fetch(jar for jar in self._locked.jars if jar not in http)
        options = [
            f"-Des.path.home={self.folder}",
            f"-Des.path.conf={self.folder / 'config'}",
            "-Des.distribution.type=tar",
            f"-Djava.io.tmpdir={self.folder / 'tmp'}",
            "-Dlog4j2.disable.jmx=true",
            "-Dio.netty.noUnsafe=true",
            "-Dio.netty.noKeySetOptimization=true",
            # Lucene memory-maps index files and calls the native zstd library.
            "--enable-native-access=ALL-UNNAMED,org.elasticsearch.nativeaccess,org.apache.lucene.core",
            "--module-path",
            ":".join(str(jar) for jar in server),
            "--add-modules=ALL-MODULE-PATH",
        ]
        return java_command(
            "headrace.node.EmbeddedNode",
            class_path=[_JAVA / "elasticsearch-node.jar"],
            heap=self._heap,
            options=options,
            arguments=[str(self.folder), self._node_name],
        )

    def answers(self, process: SupervisedProcess) -> bool:
        connection = HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", "/_cluster/health?wait_for_status=yellow&timeout=4s")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False  # not yet
        finally:
            connection.close()

    def _http_jars(self) -> list[Jar]:
        """Return the jars of the HTTP module, which has its own class loader."""
        return [jar for jar in self._locked.jars if jar.name.startswith(("netty-", _HTTP))]
