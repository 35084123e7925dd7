"""Finds installed plugins by name: entry points, Python paths, JVM class names.

Entry point groups: ``headrace.connectors``, ``headrace.converters``, ``headrace.header_converters``,
``headrace.transforms``, ``headrace.predicates``, ``headrace.config_providers``. A plugin's names are its entry
point's name, its Python path (``headrace_sources.sql.SqlSourceConnector``), its class name, the class name without the
kind's suffix, and the aliases it declares (full JVM class names, their simple names, with and without suffix). Loading
is lazy: a broken plugin affects only the connectors that use it.
"""

from __future__ import annotations

import enum
import importlib.metadata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.plugin import SinkConnector, SourceConnector, StreamConnector


class PluginKind(enum.Enum):
    """Kinds of plugins: entry point group, and the suffix that a name may omit."""

    CONNECTOR = ("headrace.connectors", "Connector")
    CONVERTER = ("headrace.converters", "Converter")
    HEADER_CONVERTER = ("headrace.header_converters", "Converter")
    TRANSFORM = ("headrace.transforms", "Transformation")
    PREDICATE = ("headrace.predicates", "Predicate")
    CONFIG_PROVIDER = ("headrace.config_providers", "ConfigProvider")

    @property
    def group(self) -> str:
        """The entry point group."""
        return self.value[0]

    @property
    def suffix(self) -> str:
        """The suffix that a simple name may omit."""
        return self.value[1]

    @property
    def word(self) -> str:
        """The name of the kind, for messages."""
        return self.name.lower().replace("_", " ")


_CONNECTORS = {"source": SourceConnector, "sink": SinkConnector, "stream": StreamConnector}


@dataclass(frozen=True)
class Plugin:
    """An installed plugin. ``load`` imports it."""

    kind: PluginKind
    name: str
    entry_point: importlib.metadata.EntryPoint

    @cached_property
    def cls(self) -> type[Any]:
        """The class. Raises ConfigError when the import fails (usually a missing extra)."""
        try:
            loaded: type[Any] = self.entry_point.load()
        except ImportError as error:
            raise ConfigError(
                f"plugin '{self.name}' cannot be loaded: {error}",
                code="plugin.broken",
                hint=f"install what {self.entry_point.module.split('.')[0]} requires, for example its extra",
            ) from error
        return loaded

    @property
    def type(self) -> str:
        """As in ``GET /connector-plugins``."""
        if self.kind is PluginKind.CONNECTOR:
            return next((name for name, cls in _CONNECTORS.items() if issubclass(self.cls, cls)), "sink")
        return {PluginKind.TRANSFORM: "transformation"}.get(self.kind, self.kind.name.lower())

    @property
    def class_name(self) -> str:
        """The dotted Python path of the class."""
        return f"{self.cls.__module__}.{self.cls.__qualname__}"

    @property
    def version(self) -> str:
        """The plugin's version."""
        return str(getattr(self.cls, "version", importlib.metadata.version("headrace")))


class Registry:
    """All installed plugins. Made once; lookups are fast."""

    def __init__(self, plugins: Iterable[Plugin] | None = None) -> None:
        self._plugins = list(plugins) if plugins is not None else list(_installed())
        self._worker = ""
        self._others: Callable[[str], Sequence[str]] = lambda name: ()

    def share(self, worker: str, others: Callable[[str], Sequence[str]]) -> None:
        """Name in findings the workers of the group that have what ``worker``, this one, lacks.

        ``others`` returns them for the name of a connector plugin.
        """
        self._worker, self._others = worker, others

    def plugins(self, kind: PluginKind | None = None) -> list[Plugin]:
        """Installed plugins, by name."""
        return sorted((item for item in self._plugins if kind in (None, item.kind)), key=lambda item: item.name)

    def find(self, kind: PluginKind, name: str) -> Plugin:
        """Return the plugin named ``name``. Raises ConfigError ``plugin.unknown`` with the nearest names."""
        for plugin in self._plugins:
            if plugin.kind is kind and name in (plugin.name, plugin.entry_point.value.replace(":", ".")):
                return plugin
        for plugin in self._plugins:
            if plugin.kind is kind and name in _names(plugin):
                return plugin
        raise ConfigError(findings=[self.unknown(kind, name)])

    def unknown(self, kind: PluginKind, name: str, key: str = "") -> Finding:
        """Return the finding about an unknown name."""
        names = {plugin.name for plugin in self.plugins(kind)}
        candidates = names | {name for plugin in self.plugins(kind) for name in _names(plugin)}
        installed = f"installed: {', '.join(sorted(names))}" if names else f"no {kind.word} is installed"
        hint = nearest(name, candidates) or installed
        text = f"Failed to find any {kind.word} plugin that is named '{name}'"
        if kind is PluginKind.CONNECTOR and (having := self._others(_entry_name(name))):
            verb = "has" if len(having) == 1 else "have"
            text += f" on worker {self._worker}; {', '.join(having)} of its group {verb} it"
            hint = f"install the plugin's package on {self._worker} as there, and restart this worker"
        return Finding("plugin.unknown", text, key, hint)


def _installed() -> Iterable[Plugin]:
    for kind in PluginKind:
        for entry_point in importlib.metadata.entry_points(group=kind.group):
            yield Plugin(kind, entry_point.name, entry_point)


def _entry_name(name: str) -> str:
    """Return the name of the entry point that a Python path or class name most probably has."""
    return name.rsplit(".", 1)[-1].removesuffix(PluginKind.CONNECTOR.suffix)


def _names(plugin: Plugin) -> set[str]:
    try:
        cls = plugin.cls
    except ConfigError:
        return {plugin.name}  # the class is not importable, but its entry point has a name
    long_names = {plugin.class_name, cls.__name__, *getattr(cls, "aliases", ())}
    simple = {name.rsplit(".", 1)[-1] for name in long_names}
    return long_names | simple | {name.removesuffix(plugin.kind.suffix) for name in simple}
