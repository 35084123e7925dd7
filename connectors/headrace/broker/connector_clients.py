"""Kafka clients of one connector: its overrides over the worker's settings, as far as the worker allows them.

A connector that overrides an address or anything of the security settings inherits no credentials of the worker:
otherwise the author of a configuration could send the worker's password to a server of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from headrace.broker.interfaces import Admin, Consumer, KafkaClients, Producer, Reader, TransactionalProducer
from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.settings import ConnectorSettings, WorkerSettings

ClientKind = Literal["producer", "consumer", "admin"]

_CONNECTION = (
    "bootstrap.servers", "metadata.broker.list", "security.", "sasl.", "ssl.", "ssl_", "enable.sasl.", "enable.ssl.",
    "https.", "proxy.", "socks5.",
)  # fmt: skip
"""Beginnings of the names of settings that say where a client connects, and as which principal."""
_WITHOUT_SECRET = {
    "bootstrap.servers", "metadata.broker.list", "security.protocol", "sasl.mechanism", "sasl.mechanisms",
    "enable.ssl.certificate.verification", "ssl.ca.location", "ssl.cafile", "ssl.check.hostname",
    "ssl.cipher.suites", "ssl.ciphers", "ssl.enabled.protocols", "ssl.endpoint.identification.algorithm",
    "ssl.protocol", "ssl.truststore.certificates", "ssl.truststore.location", "ssl.truststore.type",
}  # fmt: skip
"""Those that hold no credential. All others are not inherited, also when a client library adds new ones."""
_PRINCIPAL = frozenset({"security.protocol", "sasl.jaas.config", "sasl.mechanism"})
_WITH_PASSWORD = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_LOGINS = ("sasl.jaas.config", "sasl.username", "sasl.plain.username")


@dataclass(frozen=True)
class OverridePolicy:
    """``connector.client.config.override.policy``: which client settings connectors may override (KIP-458)."""

    name: str = "All"
    allowed: frozenset[str] = frozenset()
    """Of ``Allowlist`` (KIP-1188)."""

    @classmethod
    def of(cls, worker: WorkerSettings) -> OverridePolicy:
        return cls(worker.override_policy, frozenset(worker.override_allowlist))

    def problems(self, connector: ConnectorSettings) -> Iterator[Finding]:
        """Yield a finding for each override that is not allowed."""
        if self.name == "All":
            return
        allowed = {"Principal": _PRINCIPAL, "Allowlist": self.allowed}.get(self.name, frozenset())
        for kind in ("producer", "consumer", "admin"):
            for name in _overrides(connector, kind):
                if name in allowed:
                    continue
                # Connect's text, which clients search for.
                text = (
                    f"The '{self.name}' policy does not allow '{name}' to be overridden in the connector configuration."
                )
                listed = ", ".join(sorted(allowed)) or "none"
                hint = (
                    nearest(name, allowed) or f"connector.client.config.override.policy of the worker allows: {listed}"
                )
                yield Finding("config.override_not_allowed", text, f"{kind}.override.{name}", hint)


ALL_OVERRIDES = OverridePolicy()


@dataclass(frozen=True)
class EffectiveSettings:
    """Settings of one client: ``shared`` with those of other kinds of clients, and its ``own`` over them."""

    shared: dict[str, str]
    own: dict[str, str]


def effective_settings(worker: WorkerSettings, connector: ConnectorSettings, kind: ClientKind) -> EffectiveSettings:
    """Merge the settings of a connector's client. Raise ConfigError when it would need a password of the worker."""
    overrides = _overrides(connector, kind)
    shared, own = (
        worker.client_settings(),
        {"producer": worker.producer, "consumer": worker.consumer}.get(kind, worker.admin),
    )
    if not any(map(_is_of_connection, overrides)):
        return EffectiveSettings(shared, {**own, **overrides})
    found = EffectiveSettings(_without_credentials(shared), {**_without_credentials(own), **overrides})
    _require_login({**found.shared, **found.own}, overrides, kind)
    return found


def connects_as_admin(worker: WorkerSettings, connector: ConnectorSettings, kind: ClientKind) -> bool:
    """Return whether the connector's client has the address and the principal of the worker's own admin client."""
    if any(map(_is_of_connection, _overrides(connector, kind))):
        return False
    own = effective_settings(worker, connector, kind).own
    return _of_connection(own) == _of_connection(worker.admin)


@dataclass(frozen=True)
class ConnectorClients:
    """Opens the Kafka clients of one connector. All methods raise ConfigError, and the errors of the clients."""

    clients: KafkaClients
    worker: WorkerSettings
    connector: ConnectorSettings

    def producer(self, client_id: str, **settings: str) -> Producer:
        """``settings``: defaults that the configuration may override."""
        clients, own = self._effective("producer")
        return clients.producer({"client.id": client_id, **settings, **own})

    def consumer(self, client_id: str, group: str, **settings: str) -> Consumer:
        """``settings``: defaults that the configuration may override."""
        clients, own = self._effective("consumer")
        own.pop("group.id", None)
        return clients.consumer(group, {"client.id": client_id, **settings, **own})

    def admin(self) -> Admin:
        clients, own = self._effective("admin")
        return clients.admin(own)

    def reader(self, client_id: str, **settings: str) -> Reader:
        clients, own = self._effective("consumer")
        return clients.reader({"client.id": client_id, **own, **settings})

    def transactional_producer(self, transactional_id: str, **settings: str) -> TransactionalProducer:
        """``settings``: defaults that the configuration may override."""
        clients, own = self._effective("producer")
        return clients.transactional_producer(transactional_id, {**settings, **own})

    def _effective(self, kind: ClientKind) -> tuple[KafkaClients, dict[str, str]]:
        found = effective_settings(self.worker, self.connector, kind)
        return self.clients.sharing(found.shared), found.own


def _overrides(connector: ConnectorSettings, kind: str) -> Mapping[str, str]:
    return {"producer": connector.producer_override, "consumer": connector.consumer_override}.get(
        kind, connector.admin_override
    )


def _is_of_connection(name: str) -> bool:
    return name.startswith(_CONNECTION)


def _of_connection(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in settings.items() if _is_of_connection(name)}


def _without_credentials(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in settings.items() if not _is_of_connection(name) or name in _WITHOUT_SECRET}


def _require_login(settings: Mapping[str, str], overrides: Mapping[str, str], kind: ClientKind) -> None:
    mechanism = settings.get("sasl.mechanism", settings.get("sasl.mechanisms", "")).upper()
    if not settings.get("security.protocol", "").upper().startswith("SASL_") or mechanism not in _WITH_PASSWORD:
        return
    if any(name in overrides for name in _LOGINS):
        return
    changed = next(name for name in overrides if _is_of_connection(name))
    text = (
        f"the connector's {kind} has no user and password for {mechanism}: because it overrides '{changed}', it "
        "inherits no credentials of the worker"
    )
    hint = f"set {kind}.override.sasl.jaas.config, or remove {kind}.override.{changed}"
    found = Finding("kafka.credentials_not_inherited", text, f"{kind}.override.{changed}", hint)
    raise ConfigError(findings=[found])
