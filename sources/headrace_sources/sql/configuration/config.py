"""The configuration of the SQL source: its keys with the rules over several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Self

from headrace import Finding, key
from headrace_sources.sql.configuration.keys import PK_MODE_DOC, RECORDS, PkMode, SqlSourceKeys
from headrace_sources.sql.configuration.rules import config_problems

# Keys of the JVM's connector whose effect cannot be left out without harm: what to write instead.
_INSTEAD = {
    "incrementing.initial": "leave it out: the first read begins with the smallest value, negative ones included",
    "jdbc.credentials.provider.class": "use connection.user and connection.password with placeholders: ${env:NAME}",
}


class SqlSourceConfig(SqlSourceKeys):
    """Keys of the SQL source connector."""

    @classmethod
    def validate_properties(cls, properties: Mapping[str, str]) -> tuple[Self | None, list[Finding]]:
        """As every model; what the JVM's connector knows and this one does not gets a hint what to write instead."""
        model, findings = super().validate_properties(properties)
        return model, [
            Finding(item.code, item.message, item.key, _INSTEAD[item.key]) if item.key in _INSTEAD else item
            for item in findings
        ]

    def problems(self) -> Iterable[Finding]:
        """Rules over several keys."""
        return config_problems(self)


class JdbcSourceConfig(SqlSourceConfig):
    """The same keys with the defaults of the JVM's JDBC source, where a file that is moved from there needs them."""

    pk_mode: PkMode = key("pk.mode", default="none", doc=PK_MODE_DOC, importance="high", group=RECORDS)
