"""A registry of test plugins with keys of each type, and a config provider with a few secrets."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest

from headrace import (
    LOWER,
    CommaList,
    ConfigModel,
    ConfigProvider,
    Duration,
    Finding,
    Predicate,
    Record,
    Secret,
    SinkConnector,
    Size,
    SourceConnector,
    Transform,
    key,
    prefix_key,
)
from headrace.converters.json import JsonConverter
from headrace.converters.string import StringConverter
from headrace.files import ConfigFile, read_config_file
from headrace.interpolation import Interpolator
from headrace.registry import Plugin, PluginKind, Registry
from headrace.validation import Validator
from headrace_transforms.simple_header_converter import SimpleHeaderConverter


class ShopSourceConfig(ConfigModel):
    topic: str = key("topic", doc="Where the records go.", importance="high", group="Shop")
    interval: Duration = key("poll.interval.ms", default=1000, ge=1, doc="Pause.", group="Shop")
    size: Size = key("batch.bytes", default=1024, doc="Bytes of a batch.", group="Shop")
    rate: float = key("rate", default=1.5, le=10, doc="Records a second.", group="Shop")
    mode: Annotated[Literal["bulk", "incrementing"], LOWER] = key("mode", default="bulk", doc="How.", group="Shop")
    quiet: bool = key("quiet", default=False, doc="Say less.")
    tables: CommaList = key("tables", default="", doc="Which tables.")
    password: Secret | None = key("password", default=None, doc="Of the shop.")
    driver: dict[str, str] = prefix_key("driver.", doc="Settings of the driver.")

    ignored_keys: ClassVar[dict[str, str]] = {"jvm.heap": "there is no JVM"}

    def problems(self) -> Iterable[Finding]:
        if self.mode == "incrementing" and not self.tables:
            yield Finding("shop.no_tables", "mode incrementing needs tables", "tables", "name tables")


class ShopSourceConnector(SourceConnector):
    """Reads a shop."""

    config_model = ShopSourceConfig
    aliases: ClassVar[tuple[str, ...]] = ("com.example.jvm.ShopSourceConnector",)

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        return [dict(properties)]


class ShopSinkConfig(ConfigModel):
    url: str = key("connection.url", doc="Of the shop.", importance="high")


class ShopSinkConnector(SinkConnector):
    """Writes to a shop."""

    config_model = ShopSinkConfig


class RenameConfig(ConfigModel):
    old: str = key("old.name", doc="Present name.")
    new: str = key("new.name", doc="New name.")


class Rename(Transform):
    config_model = RenameConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        RenameConfig.parse(properties)

    def apply(self, record: Record) -> Record | None:
        return record


class TopicMatchesConfig(ConfigModel):
    pattern: str = key("pattern", doc="Regular expression.")


class TopicMatches(Predicate):
    config_model = TopicMatchesConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        TopicMatchesConfig.parse(properties)

    def test(self, record: Record) -> bool:
        return True


class VaultProvider(ConfigProvider):
    """A config provider that returns the values in ``secrets``."""

    def __init__(self) -> None:
        self.secrets: dict[str, str] = {}

    def get(self, path: str, key: str) -> str:
        if key not in self.secrets:
            raise KeyError(f"the vault has no '{key}'")
        return self.secrets[key]


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    module = types.ModuleType("shop_plugins")
    installed: list[tuple[PluginKind, str, type]] = [
        (PluginKind.CONNECTOR, "ShopSource", ShopSourceConnector),
        (PluginKind.CONNECTOR, "ShopSink", ShopSinkConnector),
        (PluginKind.CONVERTER, "JsonConverter", JsonConverter),
        (PluginKind.CONVERTER, "StringConverter", StringConverter),
        (PluginKind.HEADER_CONVERTER, "SimpleHeaderConverter", SimpleHeaderConverter),
        (PluginKind.TRANSFORM, "Rename", Rename),
        (PluginKind.PREDICATE, "TopicMatches", TopicMatches),
        (PluginKind.CONFIG_PROVIDER, "vault", VaultProvider),
    ]
    for _, _, cls in installed:
        setattr(module, cls.__name__, cls)
    sys.modules["shop_plugins"] = module
    plugins = [
        Plugin(kind, name, EntryPoint(name, f"shop_plugins:{cls.__name__}", kind.group))
        for kind, name, cls in installed
    ]
    broken = EntryPoint("Broken", "shop_without_driver:BrokenConnector", PluginKind.CONNECTOR.group)
    yield Registry([*plugins, Plugin(PluginKind.CONNECTOR, "Broken", broken)])
    del sys.modules["shop_plugins"]


@pytest.fixture
def vault() -> VaultProvider:
    return VaultProvider()


@pytest.fixture
def validator(registry: Registry, vault: VaultProvider) -> Validator:
    return Validator(registry, Interpolator({"vault": vault}))


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str, str], ConfigFile]:
    """Return ``read(name, text)``, which writes a file with this text and reads it."""

    def read_text(name: str, text: str) -> ConfigFile:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_config_file(path)

    return read_text
