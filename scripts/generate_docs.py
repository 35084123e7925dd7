"""Write the reference pages and JSON Schemas of docs/ from the models in the code.

python scripts/generate_docs.py            write them
python scripts/generate_docs.py --check    fail when one is not current
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from headrace.plugin_docs import (
    connector_keys_page,
    connector_schema,
    converter_keys_page,
    json_schema,
    markdown,
    transform_keys_page,
    worker_page,
    worker_schema,
)
from headrace.registry import PluginKind, Registry

sys.path.insert(0, str(Path(__file__).parent.parent))  # the script is run by its path

from scripts.stream_sizing import sizing_page
from scripts.type_tables import types_page

DOCS = Path(__file__).parent.parent / "docs"
FOLDERS = ("connectors", "schema")  # they hold generated files only


def pages(registry: Registry) -> dict[Path, str]:
    """Return every generated file with its content. Raise ConfigError when a connector cannot be loaded."""
    found = {
        DOCS / "worker.md": worker_page(),
        DOCS / "streams-sizing.md": sizing_page(),
        DOCS / "avro.md": types_page(),
        DOCS / "connector-keys.md": connector_keys_page(),
        DOCS / "converter-keys.md": converter_keys_page(registry.plugins(PluginKind.CONVERTER)),
        DOCS / "transform-keys.md": transform_keys_page(
            registry.plugins(PluginKind.TRANSFORM), registry.plugins(PluginKind.PREDICATE)
        ),
        DOCS / "schema" / "connector.json": _text(connector_schema(registry)),
        DOCS / "schema" / "worker.json": _text(worker_schema(registry)),
        DOCS / "schema" / "headrace.json": _text(json_schema(registry)),
    }
    for plugin in registry.plugins(PluginKind.CONNECTOR):
        found[DOCS / "connectors" / f"{plugin.name}.md"] = markdown(plugin)
    return found


def main() -> int:
    """Write or check; return 1 when a file is not current."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when a file is not current")
    check = parser.parse_args().check
    wanted = pages(Registry())
    present = {path for folder in FOLDERS for path in (DOCS / folder).glob("*") if path.is_file()}
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    left_over = sorted(present - wanted.keys())
    for path in changed:
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        print(f"{'not current' if check else 'wrote'}: {path.relative_to(DOCS.parent)}")
    for path in left_over:
        if not check:
            path.unlink()
        print(f"{'left over' if check else 'removed'}: {path.relative_to(DOCS.parent)}")
    if check and (changed or left_over):
        print("run: python scripts/generate_docs.py", file=sys.stderr)
        return 1
    return 0


def _text(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
