"""Values from ``.properties`` files: ``${file:/etc/headrace/secrets.properties:password}``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headrace import CommaList, ConfigError, ConfigModel, ConfigProvider, is_within, key, read_small_file
from headrace.file_formats import Scalar, parse_properties


class FileProviderConfig(ConfigModel):
    """Kafka's parameter of the provider (KIP-993)."""

    allowed_paths: CommaList | None = key(
        "allowed.paths",
        default=None,
        doc="Files, and folders with all that is in them, that configurations may use; absolute paths between commas.",
    )


class FileConfigProvider(ConfigProvider):
    """Kafka's FileConfigProvider. The file is read at every question, so that a changed secret is seen."""

    aliases = ("org.apache.kafka.common.config.provider.FileConfigProvider",)
    allow_list = "allowed.paths"

    def __init__(self) -> None:
        self._allowed: list[Path] | None = None

    def configure(self, parameters: Mapping[str, str]) -> None:
        paths = FileProviderConfig.parse(parameters).allowed_paths
        self._allowed = None if paths is None else [Path(path).resolve() for path in paths if path]

    def allows(self, path: str, key: str) -> bool | None:
        return None if self._allowed is None else is_within(path, self._allowed)

    def get(self, path: str, key: str) -> str:
        if not path:
            raise KeyError(f"no file is named; write ${{file:/path/to/secrets.properties:{key}}}")
        try:
            entries = parse_properties(read_small_file(Path(path)), path).entries
        except OSError as error:
            raise KeyError(f"{path} cannot be read: {error.strerror or type(error).__name__}") from error
        except UnicodeDecodeError as error:
            raise KeyError(f"{path} is not UTF-8") from error
        except ValueError as error:
            raise KeyError(f"{path} cannot be read: {error}") from error
        except ConfigError as error:
            raise KeyError(f"{path} is not a .properties file: {error.findings[0].location}") from error
        values = {name: node.text for name, _, node in entries if isinstance(node, Scalar)}
        value = values.get(key)
        if value is None:
            raise KeyError(f"{path} has no key '{key}'")
        return value
