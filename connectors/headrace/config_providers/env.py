"""Values from environment variables: ``${env:NAME}``."""

from __future__ import annotations

import os
from collections.abc import Mapping

from headrace import ConfigError, ConfigModel, ConfigProvider, Finding, Pattern, compile_pattern, key


class EnvProviderConfig(ConfigModel):
    """Kafka's parameter of the provider."""

    allowlist: str | None = key(
        "allowlist.pattern",
        default=None,
        doc="Regular expression (RE2) of the names that configurations may use; it must match the whole name.",
    )


class EnvConfigProvider(ConfigProvider):
    """Kafka's EnvVarConfigProvider."""

    aliases = ("org.apache.kafka.common.config.provider.EnvVarConfigProvider",)
    allow_list = "allowlist.pattern"

    def __init__(self) -> None:
        self._allowed: Pattern | None = None

    def configure(self, parameters: Mapping[str, str]) -> None:
        pattern = EnvProviderConfig.parse(parameters).allowlist
        try:
            self._allowed = None if pattern is None else compile_pattern(pattern)
        except ValueError as error:
            text = f"Invalid value {pattern} for configuration allowlist.pattern: {error}"
            finding = Finding("config.invalid_value", text, self.allow_list, "write for example SHOP_.*")
            raise ConfigError(findings=[finding]) from error

    def allows(self, path: str, key: str) -> bool | None:
        return None if self._allowed is None else self._allowed.fullmatch(key) is not None

    def hint(self, path: str, key: str) -> str:
        return f"set the environment variable {key} before headrace starts"

    def get(self, path: str, key: str) -> str:
        if path:
            raise KeyError(f"an environment variable has no path; write ${{env:{key}}}")
        if key not in os.environ:
            raise KeyError(f"the environment variable {key} is not set")
        return os.environ[key]
