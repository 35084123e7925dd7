"""Resolves placeholders in configurations with config providers (KIP-297).

Unlike Kafka Connect, which leaves what it cannot resolve as it is, an unknown provider or a missing key is an error.

Configurations from files that an operator names on the command line are trusted: without allow-lists every value may
be used. Configurations that come over REST may use only what the providers' allow-lists name (KIP-993).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from headrace.config import nearest
from headrace.errors import ConfigError, Finding
from headrace.placeholders import Placeholder, placeholders
from headrace.plugin import ConfigProvider
from headrace.registry import PluginKind, Registry

_LONGEST_SHOWN = 100


@dataclass(frozen=True)
class Resolution:
    """A configuration with its placeholders replaced; one that cannot be resolved is kept, with a finding."""

    properties: dict[str, str]
    findings: list[Finding]
    values: dict[str, str]
    """The value of each placeholder → the placeholder."""


class Interpolator:
    """Resolves placeholders with the providers of a worker."""

    def __init__(self, providers: Mapping[str, ConfigProvider]) -> None:
        self._providers = dict(providers)

    def resolve(self, properties: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
        """Return properties with placeholders replaced, and a finding for each that cannot be resolved (it is kept).

        The properties are trusted.
        """
        resolution = self.resolution(properties, trusted=True)
        return resolution.properties, resolution.findings

    def resolution(self, properties: Mapping[str, str], *, trusted: bool) -> Resolution:
        """Return the properties with placeholders replaced. ``trusted``: they are from a file of an operator."""
        result = Resolution({}, [], {})
        for key, value in properties.items():
            result.properties[key] = self._resolve(key, value, result, trusted)
        return result

    def _resolve(self, key: str, value: str, result: Resolution, trusted: bool) -> str:
        parts, end = [], 0
        for found in placeholders(value):
            parts.append(value[end : found.start])
            end = found.end
            try:
                text = self._lookup(found, trusted)
            except KeyError as error:
                reason = str(error.args[0]) if error.args else "no such key"
                shown = found.text if len(found.text) <= _LONGEST_SHOWN else f"{found.text[:_LONGEST_SHOWN]}…"
                message = f"{shown} in '{key}' cannot be resolved: {reason}"
                result.findings.append(Finding("config.unresolved", message, key, self._hint(found, trusted)))
                text = found.text
            else:
                result.values[text] = found.text
            parts.append(text)
        return "".join([*parts, value[end:]])

    def _lookup(self, found: Placeholder, trusted: bool) -> str:
        provider = self._providers.get(found.provider)
        if provider is None:
            name = found.provider[:_LONGEST_SHOWN]
            known = ", ".join(sorted(self._providers)) or "none"
            raise KeyError(
                f"there is no config provider '{name}' ({nearest(name, self._providers) or f'known: {known}'})"
            )
        allowed = provider.allows(found.path, found.key)
        if allowed is False:
            raise KeyError(f"the worker's {self._list_key(found, provider)} does not allow it")
        if allowed is None and not trusted:
            raise KeyError("the worker has no list of what configurations may use that come over REST")
        return provider.get(found.path, found.key)

    def _hint(self, found: Placeholder, trusted: bool) -> str:
        provider = self._providers.get(found.provider)
        if provider is None:
            return "check the provider, the path and the key"
        allowed = provider.allows(found.path, found.key)
        if allowed is False or (allowed is None and not trusted):
            hint = f"set {self._list_key(found, provider)} in the worker's file so that it includes this one"
            return hint if allowed is False else f"{hint}, or name the connector's file when the worker is started"
        return provider.hint(found.path, found.key)

    @staticmethod
    def _list_key(found: Placeholder, provider: ConfigProvider) -> str:
        return f"config.providers.{found.provider}.param.{provider.allow_list}"


def make_interpolator(
    registry: Registry, names: Iterable[str] = ("env", "file"), settings: Mapping[str, str] | None = None
) -> Interpolator:
    """Return an interpolator with these providers (``config.providers``). Raises ConfigError with all findings.

    ``settings``: the keys below ``config.providers.``, without this prefix: ``<name>.class``, ``<name>.param.<key>``.
    """
    names, settings = list(names), settings or {}
    providers: dict[str, ConfigProvider] = {}
    findings: list[Finding] = []
    for name in names:
        given = settings.get(f"{name}.class", "").strip()
        try:
            provider: ConfigProvider = registry.find(PluginKind.CONFIG_PROVIDER, given or name).cls()
            prefix = f"{name}.param."
            provider.configure(
                {key.removeprefix(prefix): text for key, text in settings.items() if key.startswith(prefix)}
            )
        except ConfigError as error:
            place = f"config.providers.{name}.class" if given else "config.providers"
            findings += [_placed(finding, name, place) for finding in error.findings or (error.finding(),)]
        else:
            providers[name] = provider
    findings += _unknown(names, settings)
    if findings:
        raise ConfigError(findings=findings)
    return Interpolator(providers)


def _placed(finding: Finding, name: str, place: str) -> Finding:
    """Return a finding of a provider with the whole key."""
    key = f"config.providers.{name}.param.{finding.key}" if finding.key else place
    return Finding(finding.code, finding.message, key, finding.hint)


def _unknown(names: Iterable[str], settings: Mapping[str, str]) -> Iterable[Finding]:
    known = [f"{name}.{part}" for name in names for part in ("class", "param.")]
    for key in settings:
        if not any(key == item or (item.endswith(".") and key.startswith(item)) for item in known):
            text = f"unknown configuration key 'config.providers.{key}'"
            hint = "keys are config.providers.NAME.class and config.providers.NAME.param.…, with a NAME of "
            yield Finding(
                "config.unknown_key", text, f"config.providers.{key}", f"{hint}'config.providers': {', '.join(names)}"
            )
