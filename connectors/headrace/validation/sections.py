"""The sections of a configuration: the keys that one model defines, below a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from headrace.config import ConfigModel, LocalUse, key, nearest
from headrace.errors import Finding
from headrace.validation.rules import aliases_of

_MOST_SUGGESTIONS = 100


class TransformSettings(ConfigModel):
    """Keys of the framework below ``transforms.<alias>.``: the others are the transform's."""

    type: str = key("type", doc="Name or class of the transform.", importance="high")
    predicate: str | None = key("predicate", default=None, doc="Alias of the predicate that decides where it applies.")
    negate: bool = key("negate", default=False, doc="Apply where the predicate is false.")


class PredicateSettings(ConfigModel):
    """Keys of the framework below ``predicates.<alias>.``: the others are the predicate's."""

    type: str = key("type", doc="Name or class of the predicate.", importance="high")


@dataclass(frozen=True)
class ConfigSection:
    """The keys of a configuration below ``prefix`` that one model defines. ``model`` None = unknown: accept any key.

    ``group`` is the group of its keys in REST responses, unless they name one themselves.
    """

    prefix: str
    model: type[ConfigModel] | None
    group: str = ""
    delegated: tuple[str, ...] = ()
    """Prefixes whose keys belong to other sections."""

    def knows(self, name: str) -> bool:
        """Return whether the key belongs to this section."""
        if not name.startswith(self.prefix) or name.startswith(self.delegated):
            return False
        return self.model is None or self.model.owns(name.removeprefix(self.prefix))

    def names(self) -> Iterator[str]:
        """Yield its keys with the prefix; of prefix keys the prefix."""
        for definition in self.model.definitions() if self.model else ():
            yield self.prefix + definition.name

    def validate(self, properties: Mapping[str, str]) -> tuple[ConfigModel | None, list[Finding]]:
        """Validate this section's keys of ``properties``. Keys in findings have their prefix."""
        if self.model is None:
            return None, []
        model, findings = self.model.validate_properties(self._own(properties))
        return model, [_prefixed(finding, self.prefix) for finding in findings]

    def validate_values(self, properties: Mapping[str, str]) -> list[Finding]:
        """Validate this section's keys one by one, without rules over several keys."""
        if self.model is None:
            return []
        findings = self.model.validate_values(self._own(properties))
        return [_prefixed(finding, self.prefix) for finding in findings]

    def local_uses(self, properties: Mapping[str, str]) -> list[LocalUse]:
        """Return what this section's keys use of the worker's machine. Keys have their prefix."""
        if self.model is None:
            return []
        return [replace(use, key=self.prefix + use.key) for use in self.model.local_uses(self._own(properties))]

    def secret_keys(self) -> list[str]:
        """Return the keys that the model declares as passwords, with the prefix."""
        found = self.model.definitions() if self.model else ()
        return [self.prefix + item.name for item in found if item.secret and not item.prefix_key]

    def _own(self, properties: Mapping[str, str]) -> dict[str, str]:
        assert self.model is not None
        return {
            rest: value
            for name, value in properties.items()
            if name.startswith(self.prefix) and self.model.owns(rest := name.removeprefix(self.prefix))
        }


def unknown_keys(sections: Sequence[ConfigSection], properties: Mapping[str, str], otherwise: str) -> Iterator[Finding]:
    """Yield a finding for each key of no section. ``otherwise``: the hint when no known key is similar."""
    known = [name for section in sections for name in section.names()]
    unknown = [name for name in properties if not any(section.knows(name) for section in sections)]
    for number, name in enumerate(unknown):
        # A search takes a millisecond: a request with very many unknown keys must not block other threads.
        similar = nearest(name, known) if number < _MOST_SUGGESTIONS else ""
        text, hint = f"unknown configuration key '{name}'", similar or otherwise
        word, _, rest = name.partition(".")
        alias = rest.partition(".")[0]
        if word in ("transforms", "predicates") and alias not in aliases_of(properties.get(word, "")):
            text += f": there is no alias '{alias}' in '{word}'"
            similar = nearest(alias, aliases_of(properties.get(word, ""))) if number < _MOST_SUGGESTIONS else ""
            hint = similar or f"add '{alias}' to '{word}', or remove the key"
        yield Finding("config.unknown_key", text, name, hint)


def _prefixed(finding: Finding, prefix: str) -> Finding:
    if not prefix or not finding.key:
        return finding
    name, message = finding.key, finding.message
    for form in ("for configuration {}:", 'required configuration "{}"', "'{}' has no effect"):
        message = message.replace(form.format(name), form.format(prefix + name), 1)
    return replace(finding, key=prefix + name, message=message)
