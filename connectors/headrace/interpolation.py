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
from headrace.registry import PluginKind, Registry

PLACEHOLDER = re.compile(r"\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}")
"""Kafka's own pattern (``ConfigTransformer``): groups 1 provider, 3 path, 4 key."""

# Reasons that headrace.config makes from the model alone; any other may quote the value.
_REASON_WITHOUT_VALUE = re.compile(
    r"Not a number of type \w+|Expected value to be either true or false|String must be one of: .*|Value must be .*",
    re.DOTALL,
)


class Interpolator:
    """Resolves placeholders with the providers of a worker."""

    def __init__(self, providers: Mapping[str, ConfigProvider]) -> None:
        self._providers = dict(providers)

    def resolve(self, properties: Mapping[str, str]) -> tuple[dict[str, str], list[Finding]]:
        """Return properties with placeholders replaced, and a finding for each that cannot be resolved (it is kept)."""
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
    """Return an interpolator with these providers (the worker's ``config.providers``). Raises ConfigError."""
    return Interpolator({name: registry.find(PluginKind.CONFIG_PROVIDER, name).cls() for name in names})


def is_interpolated(value: str) -> bool:
    """Return whether the value contains a placeholder."""
    return PLACEHOLDER.search(value) is not None


def redactor(raw: Mapping[str, str], resolved: Mapping[str, str]) -> Callable[[str], str]:
    """Return a function that replaces the values of placeholders by the placeholders, in any text."""
    secrets: dict[str, str] = {}
    for key, written in raw.items():
        value = resolved.get(key, written)
        if value != written:
            for text, shown in ((value, written), *_fragments(written, value)):
                # Replacing shorter values would garble every text, and they are no secrets.
                if len(text.strip()) > 2:
                    secrets |= dict.fromkeys((text, text.strip(), repr(text)[1:-1]), shown)
    if not secrets:
        return lambda text: text
    by_form = {form.lower(): shown for form, shown in secrets.items()}
    forms = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(map(re.escape, forms)), re.IGNORECASE)
    return lambda text: pattern.sub(lambda match: by_form.get(match[0].lower(), "[hidden]"), text)


def redact_findings(findings: Iterable[Finding], raw: Mapping[str, str], resolved: Mapping[str, str]) -> list[Finding]:
    """Return findings without the values of placeholders, whichever message or hint quotes them."""
    redact = redactor(raw, resolved)
    return [_redacted(finding, raw, redact) for finding in findings]


def _redacted(finding: Finding, raw: Mapping[str, str], redact: Callable[[str], str]) -> Finding:
    written = raw.get(finding.key, "")
    if finding.code == "config.invalid_value" and is_interpolated(written):
        reason = finding.message.partition(f"for configuration {finding.key}: ")[2]
        if not _REASON_WITHOUT_VALUE.fullmatch(reason):
            reason = "the value of the placeholder is not valid"
        text = f"Invalid value {written} for configuration {finding.key}: {reason}"
        return replace(finding, message=text, hint="check the value of the placeholder")
    # A key that is not in the file contains an alias, which may come from a placeholder.
    key = finding.key if finding.key in raw else redact(finding.key)
    return replace(finding, key=key, message=redact(finding.message), hint=redact(finding.hint))


def _fragments(written: str, value: str) -> list[tuple[str, str]]:
    """Return the value of each placeholder, with the placeholder."""
    literals = PLACEHOLDER.split(written)[:: PLACEHOLDER.groups + 1]
    match = re.fullmatch("(.*?)".join(map(re.escape, literals)), value, re.DOTALL)
    shown = [match[0] for match in PLACEHOLDER.finditer(written)]
    return list(zip(match.groups(), shown, strict=True)) if match else []


def _hint(match: re.Match[str]) -> str:
    if match[1] == "env":
        return f"set the environment variable {match[4]} before headrace starts"
    return "check the provider, the path and the key"
