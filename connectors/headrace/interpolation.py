"""Placeholders in configurations: ``${env:NAME}``, ``${file:/path:key}``, resolved by config providers (KIP-297).

Kafka Connect's syntax: ``${provider:[path:]key}``, several per value, one pass. Unlike Kafka Connect, which leaves
what it cannot resolve as it is, an unknown provider or a missing key is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from headrace.config import nearest
from headrace.errors import Finding
from headrace.plugin import ConfigProvider
from headrace.registry import Kind, Registry

PLACEHOLDER = re.compile(r"\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}")
"""Kafka's own pattern (``ConfigTransformer``): groups 1 provider, 3 path, 4 key."""

# Reasons that are made of the model alone (headrace.config); every other may quote the value.
_HARMLESS = re.compile(
    r"Not a number of type \w+|Expected value to be either true or false|String must be one of: .*|Value must be .*",
    re.DOTALL,
)


class Interpolator:
    """Resolves placeholders with the providers of a worker."""

    def __init__(self, providers: Mapping[str, ConfigProvider]) -> None:
        self._providers = dict(providers)

    def resolve(self, properties: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
        """Properties with values in place of placeholders; a finding for each that has none (it is left as it is)."""
        findings: list[Finding] = []
        return {key: self._resolve(key, value, findings) for key, value in properties.items()}, findings

    def _resolve(self, key: str, value: str, findings: list[Finding]) -> str:
        def substitute(match: re.Match[str]) -> str:
            try:
                return self._lookup(match)
            except KeyError as error:
                reason = str(error.args[0]) if error.args else "no such key"
                text = f"{match[0]} in '{key}' cannot be resolved: {reason}"
                findings.append(Finding("config.unresolved", text, key, _hint(match)))
                return match[0]

        return PLACEHOLDER.sub(substitute, value)

    def _lookup(self, match: re.Match[str]) -> str:
        name, path, key = match[1], match[3] or "", match[4]
        provider = self._providers.get(name)
        if provider is None:
            known = ", ".join(sorted(self._providers)) or "none"
            raise KeyError(
                f"there is no config provider '{name}' ({nearest(name, self._providers) or f'known: {known}'})"
            )
        return provider.get(path, key)


def make_interpolator(registry: Registry, names: Iterable[str] = ("env", "file")) -> Interpolator:
    """With the installed providers of these names (the worker's ``config.providers``). Raises ConfigError."""
    return Interpolator({name: registry.find(Kind.CONFIG_PROVIDER, name).cls() for name in names})


def is_interpolated(value: str) -> bool:
    """Whether the value holds a placeholder."""
    return PLACEHOLDER.search(value) is not None


def concealer(raw: Mapping[str, str], resolved: Mapping[str, str]) -> Callable[[str], str]:
    """A function that puts placeholders back in place of what they stand for, in any text."""
    secrets: dict[str, str] = {}
    for key, written in raw.items():
        value = resolved.get(key, written)
        if value != written:
            for text, shown in ((value, written), *_fragments(written, value)):
                # Shorter ones are no secrets, and hiding them would garble every text.
                if len(text.strip()) > 2:
                    secrets |= dict.fromkeys((text, text.strip(), repr(text)[1:-1]), shown)
    if not secrets:
        return lambda text: text
    by_form = {form.lower(): shown for form, shown in secrets.items()}
    forms = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, forms)), re.IGNORECASE)
    return lambda text: pattern.sub(lambda match: by_form.get(match[0].lower(), "[hidden]"), text)


def conceal(findings: Iterable[Finding], raw: Mapping[str, str], resolved: Mapping[str, str]) -> list[Finding]:
    """Findings that say nothing of what placeholders stand for; also not what a plugin made of it in its message."""
    hide = concealer(raw, resolved)
    return [_concealed(finding, raw, hide) for finding in findings]


def _concealed(finding: Finding, raw: Mapping[str, str], hide: Callable[[str], str]) -> Finding:
    written = raw.get(finding.key, "")
    if finding.code == "config.invalid_value" and is_interpolated(written):
        reason = finding.message.partition(f"for configuration {finding.key}: ")[2]
        if not _HARMLESS.fullmatch(reason):
            reason = "the value that the placeholder stands for failed validation"
        text = f"Invalid value {written} for configuration {finding.key}: {reason}"
        return replace(finding, message=text, hint="see what the placeholder stands for")
    # A key that nobody wrote was made of an alias, which may itself come from a placeholder.
    key = finding.key if finding.key in raw else hide(finding.key)
    return replace(finding, key=key, message=hide(finding.message), hint=hide(finding.hint))


def _fragments(written: str, value: str) -> list[tuple[str, str]]:
    """What each placeholder of a value stands for."""
    literals = PLACEHOLDER.split(written)[:: PLACEHOLDER.groups + 1]
    match = re.fullmatch("(.*?)".join(map(re.escape, literals)), value, re.DOTALL)
    shown = [match[0] for match in PLACEHOLDER.finditer(written)]
    return list(zip(match.groups(), shown, strict=True)) if match else []


def _hint(match: re.Match[str]) -> str:
    if match[1] == "env":
        return f"set the environment variable {match[4]} where headrace starts"
    return "check provider, path and key"
