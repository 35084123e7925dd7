"""A pack: the saved objects and alert rules of one Kibana space, as files for version control.

========================  =============================================================================
``pack.json``             the format of the pack, and the space that its ids belong to
``saved-objects.ndjson``  one object per line, as Kibana exports and imports them
``rules.ndjson``          one alert rule per line, as ``/api/alerting/rule`` takes them
========================  =============================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.errors import ConfigError, Finding, Location
from headrace.kibana.alert_rules import AlertRule
from headrace.kibana.ids import canonical
from headrace.kibana.saved_objects import SavedObject

FORMAT = 1
_MANIFEST, _OBJECTS, _RULES = "pack.json", "saved-objects.ndjson", "rules.ndjson"
_ORDER = ("tag", "index-pattern", "search", "dashboard")


@dataclass(frozen=True)
class Pack:
    """Everything that headrace makes for one space of Kibana."""

    space: str
    objects: tuple[SavedObject, ...]
    rules: tuple[AlertRule, ...]

    def of_type(self, kind: str) -> list[SavedObject]:
        """Return the saved objects of one type."""
        return [item for item in self.objects if item["type"] == kind]


def title_of(item: SavedObject | AlertRule) -> str:
    """Return the name of an object for messages."""
    attributes = item.get("attributes", item)
    return str(attributes.get("name") or attributes.get("title") or item.get("id"))


def to_ndjson(items: Iterable[Any]) -> str:
    """Return one line of JSON with sorted keys for each item."""
    return "".join(f"{canonical(item)}\n" for item in items)


def write_pack(pack: Pack, folder: Path) -> list[Path]:
    """Write the files of a pack; equal packs are equal files. Return their paths. Raise ConfigError."""
    objects = sorted(pack.objects, key=lambda item: (_ORDER.index(item["type"]), title_of(item), item["id"]))
    rules = sorted(pack.rules, key=lambda rule: (rule["name"], rule["id"]))
    texts = {
        _MANIFEST: json.dumps({"format": FORMAT, "space": pack.space}, indent=2, sort_keys=True) + "\n",
        _OBJECTS: to_ndjson(objects),
        _RULES: to_ndjson(rules),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        text = f"the pack cannot be written to {folder}: {error.strerror or error}"
        raise ConfigError(text, code="kibana.bad_folder", hint="choose another folder with --output") from error
    return [folder / name for name in texts]


def read_pack(folder: Path) -> Pack:
    """Return the pack in a folder. Raise ConfigError with the file and line that cannot be read."""
    manifest = _parsed(folder / _MANIFEST, _text(folder / _MANIFEST), 1)
    if not isinstance(manifest.get("format"), int) or not isinstance(manifest.get("space"), str):
        raise _bad(folder / _MANIFEST, 1, "it has no 'format' and 'space'")
    if manifest["format"] > FORMAT:
        raise _bad(folder / _MANIFEST, 1, f"its format {manifest['format']} is newer than this headrace")
    objects = tuple(_lines(folder / _OBJECTS, ("type", "id", "attributes", "references")))
    rules = tuple(_lines(folder / _RULES, ("id", "name", "rule_type_id", "params", "schedule", "tags")))
    return Pack(manifest["space"], objects, rules)


def _lines(path: Path, required: Iterable[str]) -> Iterable[dict[str, Any]]:
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        item = _parsed(path, line, number)
        if "exportedCount" in item:
            continue  # the last line of an export of Kibana
        for name in required:
            if name not in item:
                raise _bad(path, number, f"the object has no '{name}'")
        yield item


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _bad(path, 1, getattr(error, "strerror", None) or "it is not UTF-8") from error


def _parsed(path: Path, text: str, line: int) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _bad(path, line, "it is not JSON") from error
    if not isinstance(content, dict):
        raise _bad(path, line, "it is not a JSON object")
    return content


def _bad(path: Path, line: int, why: str) -> ConfigError:
    text = f"{path} is not a file of a pack: {why}"
    hint = "write the pack again with `headrace kibana build`"
    return ConfigError(findings=[Finding("kibana.bad_pack", text, hint=hint, location=Location(str(path), line))])
