"""Values from environment variables: ``${env:NAME}``."""

from __future__ import annotations

import os

from headrace import ConfigProvider


class EnvConfigProvider(ConfigProvider):
    """Kafka's EnvVarConfigProvider."""

    aliases = ("org.apache.kafka.common.config.provider.EnvVarConfigProvider",)

    def get(self, path: str, key: str) -> str:
        if path:
            raise KeyError(f"an environment variable has no path; write ${{env:{key}}}")
        if key not in os.environ:
            raise KeyError(f"the environment variable {key} is not set")
        return os.environ[key]
