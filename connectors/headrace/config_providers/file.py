"""Values from ``.properties`` files: ``${file:/etc/headrace/secrets.properties:password}``."""

from __future__ import annotations

from pathlib import Path

from headrace import ConfigError, ConfigProvider
from headrace.file_formats import Scalar, parse_properties


class FileConfigProvider(ConfigProvider):
    """Kafka's FileConfigProvider. The file is read at every question, so that a changed secret is seen."""

    aliases = ("org.apache.kafka.common.config.provider.FileConfigProvider",)

    def get(self, path: str, key: str) -> str:
        if not path:
            raise KeyError(f"no file is named; write ${{file:/path/to/secrets.properties:{key}}}")
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
            entries = parse_properties(text, path).entries
        except OSError as error:
            raise KeyError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error
        except UnicodeDecodeError as error:
            raise KeyError(f"{path} is not UTF-8") from error
        except ConfigError as error:
            raise KeyError(f"{path} is not a .properties file: {error.findings[0].location}") from error
        values = {name: node.text for name, _, node in entries if isinstance(node, Scalar)}
        value = values.get(key)
        if value is None:
            raise KeyError(f"{path} has no key '{key}'")
        return value
