"""``headrace preview``: real records as a connector would write them."""

from __future__ import annotations

import json as json_format
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from headrace.cli.loading import Loaded, load
from headrace.cli.output import JsonFlag, err, out, print_json
from headrace.errors import CommandError, ConfigError
from headrace.records import Headers
from headrace.settings import SinkSettings, SourceSettings
from headrace.validation import ConnectorConfig

if TYPE_CHECKING:
    from headrace.verification.preview import Preview, PreviewedRecord

_REFUSED = 1  # exit code
_LONGEST = 2_000


def preview_command(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="The worker's file and the connector's.", show_default=False)
    ],
    connector: Annotated[
        str | None, typer.Option("--connector", metavar="NAME", help="Which one, when the files have several.")
    ] = None,
    records: Annotated[int, typer.Option("--records", min=1, max=1_000, metavar="N", help="Most records to show.")] = 5,
    json: JsonFlag = False,
) -> None:
    """Show real records as a connector would write them, after converters and transforms. Nothing is written.

      headrace preview worker.yaml search.yaml --records 20

    Of a sink: its newest records, the documents that they become, the mapping that their schema leads to. The
    connector's offsets are not used. Of a source: its first rows. Exit code 1: some would be refused.
    """
    loaded = load(files)
    config = _chosen(loaded, connector)
    preview = _preview(loaded, config, records)
    if json:
        print_json(_view(preview))
    else:
        _print(preview)
    if preview.refused:
        raise typer.Exit(_REFUSED)


def _chosen(loaded: Loaded, name: str | None) -> ConnectorConfig:
    """Return the connector to preview. Raise ConfigError, CommandError."""
    if loaded.settings is None and not any(finding.severity == "error" for finding in loaded.findings):
        raise ConfigError(
            "none of the files is a worker's", code="config.missing_worker", hint="add the file with bootstrap.servers"
        )
    loaded.require()
    if name is None and len(loaded.configs) == 1:
        return next(iter(loaded.configs.values()))
    if name not in loaded.configs:
        text = f"none of the files defines a connector '{name}'" if name else "the files do not define one connector"
        hint = f"name one with --connector: {', '.join(loaded.configs)}" if loaded.configs else "add a connector's file"
        raise CommandError(text, code="preview.which_connector", hint=hint)
    return loaded.configs[name]


def _preview(loaded: Loaded, config: ConnectorConfig, records: int) -> Preview:
    # Late: --help needs no Kafka client.
    from headrace.verification.preview import preview_sink, preview_source
    from headrace.verification.wiring import open_history, open_stages, previewer_of

    settings = loaded.require()
    if isinstance(config.settings, SinkSettings):
        with open_history(loaded.registry, settings, config) as history:
            return preview_sink(history, previewer_of(config), records)
    if isinstance(config.settings, SourceSettings):
        with open_stages(loaded.registry, settings, config) as stages:
            return preview_source(config, stages, records)
    raise CommandError(
        f"'{config.name}' is a stream application",
        code="preview.stream",
        hint="`headrace stream test` runs an application without Kafka",
    )


def _print(preview: Preview) -> None:
    for record in preview.records:
        out.print(Text.assemble((record.place, "bold"), "  ", ("key ", "dim"), _text(record.key)))
        if record.write is not None:
            out.print(Text.assemble(("  writes ", "dim"), f"{record.write.action} {record.write.target}"))
        elif record.topic != record.place:
            out.print(Text.assemble(("  topic ", "dim"), record.topic))
        for name, value in record.headers:
            out.print(Text.assemble(("  header ", "dim"), name, ("=", "dim"), _text(value)))
        shown = record.write.content if record.write is not None else _text(record.value)
        out.print(Text(f"  {_shortened(shown)}"), soft_wrap=True)
    for target, definition in preview.mappings.items():
        out.print(Text.assemble(("mapping of ", "dim"), target))
        out.print(Text(f"  {json_format.dumps(definition, ensure_ascii=False)}"), soft_wrap=True)
    for refused in preview.refused:
        err.print(Text.assemble((refused.place, "bold"), (" refused ", "red"), f"{refused.stage}: {refused.error}"))
    summary = f"{preview.read} read, {len(preview.records)} would be written"
    summary += f", {preview.dropped} dropped by transforms" if preview.dropped else ""
    summary += f", {len(preview.refused)} refused" if preview.refused else ""
    err.print(Text(summary, style="bold red" if preview.refused else "green"))


def _view(preview: Preview) -> dict[str, Any]:
    return {
        "read": preview.read,
        "dropped": preview.dropped,
        "records": [_record_view(record) for record in preview.records],
        "refused": [
            {"place": item.place, "stage": item.stage, "code": item.error.code, "message": item.error.message}
            for item in preview.refused
        ],
        "mappings": preview.mappings,
    }


def _record_view(record: PreviewedRecord) -> dict[str, Any]:
    written = record.write._asdict() if record.write is not None else None
    return {
        "place": record.place,
        "topic": record.topic,
        "key": _text(record.key),
        "value": None if record.value is None else _text(record.value),
        "headers": _headers(record.headers),
        "write": written,
    }


def _headers(headers: Headers) -> Sequence[Sequence[str | None]]:
    return [[name, None if value is None else _text(value)] for name, value in headers]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return value.decode(errors="backslashreplace")
    return json_format.dumps(value, ensure_ascii=False, default=str)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
