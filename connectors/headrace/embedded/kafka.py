"""A real Apache Kafka in KRaft mode: one broker, or three with replication, each its own controller.

Clients have their own listener, optionally with TLS and SASL; brokers and controllers talk in plain text. All listen on
127.0.0.1.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from headrace.embedded.artifacts import locked
from headrace.embedded.engine import Engine
from headrace.embedded.jars import fetch
from headrace.embedded.java import java_command
from headrace.embedded.lifecycle import StartStop
from headrace.embedded.parallel_start import start_in_parallel, stop_in_parallel
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import HOST, free_port
from headrace.errors import InfrastructureError

_FORMAT_TIMEOUT = 180.0  # seconds; two on an idle machine
# Any 16 bytes (base64); a broker refuses a folder with another id.
_CLUSTER_ID = "aGVhZHJhY2UtbG9jYWxfMQ"
_LOGGING = """\
rootLogger.level=WARN
rootLogger.appenderRef.console.ref=Console
logger.server.name=kafka.server.KafkaRaftServer
logger.server.level=INFO
appender.console.type=Console
appender.console.name=Console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d %p %c{1} %m%n
"""


# Package and prefix of the Java login module for each mechanism that needs no other service.
_MECHANISMS = {"SCRAM-SHA-512": "scram.Scram", "SCRAM-SHA-256": "scram.Scram", "PLAIN": "plain.Plain"}


@dataclass(frozen=True, slots=True)
class Security:
    """TLS and logins of the clients' listener.

    ``tls_file``: PEM with private key (PKCS #8) and chain; ``users``: passwords by name.
    """

    tls_file: Path | None = None
    users: Mapping[str, str] = field(default_factory=dict)

    @property
    def protocol(self) -> str:
        """``security.protocol`` of clients."""
        return ("SASL_" if self.users else "") + ("SSL" if self.tls_file else "PLAINTEXT")

    def settings(self) -> dict[str, str]:
        """Return entries for ``server.properties``."""
        lines: dict[str, str] = {}
        if self.tls_file is not None:
            lines["listener.name.client.ssl.keystore.type"] = "PEM"
            lines["listener.name.client.ssl.keystore.location"] = str(self.tls_file)
        if self.users:
            lines["listener.name.client.sasl.enabled.mechanisms"] = ",".join(_MECHANISMS)
            plain = "".join(f' user_{name}="{password}"' for name, password in self.users.items())
            for mechanism, kind in _MECHANISMS.items():
                users = plain if mechanism == "PLAIN" else ""
                lines[f"listener.name.client.{mechanism.lower()}.sasl.jaas.config"] = (
                    f"org.apache.kafka.common.security.{kind}LoginModule required{users};"
                )
        return lines

    def format_arguments(self) -> list[str]:
        """Return arguments for ``kafka-storage format``: Kafka keeps SCRAM users in its own data."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in _MECHANISMS
            if mechanism != "PLAIN"
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]


class Broker(Engine):
    """One broker and controller, made by :class:`Kafka`.

    Set ``advertised_port`` before a start to make clients connect there instead of to ``port``: to a proxy.
    """

    name = "kafka"
    stop_grace = 10.0

    def __init__(
        self,
        folder: Path,
        number: int,
        port: int | None,
        *,
        heap: str,
        security: Security,
        settings: Callable[[], Mapping[str, str]],
    ) -> None:
        super().__init__(folder, port)
        self.number = number
        self.advertised_port = self.port
        self.more_listeners: dict[str, tuple[int, int]] = {}
        """Further listeners for clients by name, each with its port and the port that it advertises: to the clients of
        one listener the brokers can be cut off by proxies while others reach them."""
        self.controller_port, self._internal_port = free_port(), free_port()
        self._security = security
        self.title = f"Kafka broker {number}"
        self._heap, self._settings = heap, settings

    @property
    def internal_address(self) -> str:
        """``host:port`` of the listener without TLS and login, for administration."""
        return f"{HOST}:{self._internal_port}"

    @property
    def version(self) -> str:
        return locked("kafka").version

    @property
    def log_path(self) -> Path:
        return self.folder / f"broker-{self.number}.log"

    @property
    def data_path(self) -> Path:
        """Kafka's ``log.dirs``."""
        return self.folder / f"broker-{self.number}"

    def prepare(self) -> None:
        lines = [f"{key}={value}" for key, value in {**self._own_settings(), **self._settings()}.items()]
        self._properties.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._logging.write_text(_LOGGING, encoding="utf-8")
        if not (self.data_path / "meta.properties").exists():
            self._format()

    def _own_settings(self) -> dict[str, str]:
        clients = {"CLIENT": (self.port, self.advertised_port), **self.more_listeners}
        listening = ",".join(f"{name}://{HOST}:{port}" for name, (port, _) in clients.items())
        advertised = ",".join(f"{name}://{HOST}:{port}" for name, (_, port) in clients.items())
        protocols = ",".join(f"{name}:{self._security.protocol}" for name in clients)
        return {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "listeners": (
                f"{listening},INTERNAL://{HOST}:{self._internal_port},CONTROLLER://{HOST}:{self.controller_port}"
            ),
            "advertised.listeners": f"{advertised},INTERNAL://{HOST}:{self._internal_port}",
            "listener.security.protocol.map": f"{protocols},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_path),
            **self._security.settings(),
        }

    def _format(self) -> None:
        arguments = ["format", "-t", _CLUSTER_ID, "-c", str(self._properties), *self._security.format_arguments()]
        done = subprocess.run(
            self._java("kafka.tools.StorageTool", arguments),
            capture_output=True,
            text=True,
            timeout=_FORMAT_TIMEOUT,
            check=False,
        )
        if done.returncode:
            raise InfrastructureError(
                f"{self.title}'s data folder cannot be formatted:\n{done.stdout}{done.stderr}", code="embedded.start"
            )

    def command(self) -> list[str]:
        return self._java("kafka.Kafka", [str(self._properties)])

    def _java(self, main: str, arguments: list[str]) -> list[str]:
        options = [f"-Dlog4j2.configurationFile={self._logging}", "--enable-native-access=ALL-UNNAMED"]
        class_path = fetch(locked("kafka").jars)
        return java_command(main, class_path=class_path, heap=self._heap, options=options, arguments=arguments)

    @property
    def _properties(self) -> Path:
        return self.folder / f"broker-{self.number}.properties"

    @property
    def _logging(self) -> Path:
        return self.folder / f"broker-{self.number}.log4j2.properties"

    def answers(self, process: SupervisedProcess) -> bool:
        # An open port is not enough: the broker creates no topics before the controller has registered it.
        if "Kafka Server started" not in process.log_text():
            return False
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0


class Kafka(StartStop):
    """A cluster of one or three brokers; ``brokers[i]`` can be killed and started alone.

    Three brokers: replication factor 3, ``min.insync.replicas`` 2. With ``port`` the brokers listen on it and the
    ports after it. ``heap`` is each broker's ``-Xmx``; ``settings`` are lines for ``server.properties``.

    ``tls_file`` (PEM: private key in PKCS #8 and certificate chain) makes clients use TLS; ``users`` (passwords by
    name, without commas) makes them log in by SCRAM-SHA-512, SCRAM-SHA-256 or PLAIN. SCRAM users are created at the
    first start only.
    """

    name = "kafka"
    title = "Kafka"

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        brokers: int = 1,
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
        tls_file: Path | str | None = None,
        users: Mapping[str, str] | None = None,
    ) -> None:
        if brokers not in (1, 3):
            raise ValueError(f"brokers must be 1 or 3, not {brokers}")
        self._settings = dict(settings or {})
        self.security = Security(Path(tls_file).absolute() if tls_file else None, dict(users or {}))
        # The number of brokers is part of the data's format, so each number has its own folder.
        folder = folder / f"{brokers}-broker{'s' if brokers > 1 else ''}"
        self.brokers = [
            Broker(
                folder,
                number,
                port and port + number - 1,
                heap=heap,
                security=self.security,
                settings=self._shared_settings,
            )
            for number in range(1, brokers + 1)
        ]

    def _shared_settings(self) -> dict[str, str]:
        factor, in_sync = (3, 2) if len(self.brokers) == 3 else (1, 1)
        voters = ",".join(f"{broker.number}@{HOST}:{broker.controller_port}" for broker in self.brokers)
        return {
            "controller.quorum.voters": voters,
            "auto.create.topics.enable": "true",
            "default.replication.factor": str(factor),
            "min.insync.replicas": str(in_sync),
            "offsets.topic.replication.factor": str(factor),
            "offsets.topic.num.partitions": "10",
            "transaction.state.log.replication.factor": str(factor),
            "transaction.state.log.min.isr": str(in_sync),
            "transaction.state.log.num.partitions": "10",
            "share.coordinator.state.topic.replication.factor": str(factor),
            "share.coordinator.state.topic.min.isr": str(in_sync),
            "group.initial.rebalance.delay.ms": "0",
            **self._settings,
        }

    @property
    def bootstrap_servers(self) -> str:
        """``host:port,…`` of every broker, as advertised."""
        return ",".join(f"{HOST}:{broker.advertised_port}" for broker in self.brokers)

    @property
    def version(self) -> str:
        return self.brokers[0].version

    @property
    def port(self) -> int:
        """The first broker's port; see ``brokers[i].port`` for the others."""
        return self.brokers[0].port

    @property
    def pid(self) -> int:
        """The first broker's process id."""
        return self.brokers[0].pid

    @property
    def log_path(self) -> Path:
        """The first broker's log."""
        return self.brokers[0].log_path

    @property
    def running(self) -> bool:
        return all(broker.running for broker in self.brokers)

    def start(self) -> None:
        """Start all brokers in parallel: a quorum needs two of three."""
        fetch(locked("kafka").jars)
        start_in_parallel(self.brokers)

    def check(self) -> None:
        """Raise InfrastructureError with the end of its log if a broker was started and has ended by itself."""
        for broker in self.brokers:
            broker.check()

    def hold(self, *descriptors: int) -> None:
        """Keep file descriptors open until the brokers have ended, even if this process is killed."""
        for broker in self.brokers:
            broker.hold(*descriptors)

    def stop(self) -> None:
        stop_in_parallel(self.brokers)

    def kill(self) -> None:
        for broker in self.brokers:
            broker.kill()

    def pause(self) -> None:
        for broker in self.brokers:
            broker.pause()

    def resume(self) -> None:
        for broker in self.brokers:
            broker.resume()

    def restart(self) -> None:
        self.stop()
        self.start()
