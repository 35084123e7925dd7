"""``headrace reindex``: rebuild a sink's indices without downtime, and roll back."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from headrace.cli.connector_lookup import find_connector
from headrace.cli.output import JsonFlag, err, print_json, print_table
from headrace.cli.verify import Connector, ProgressDisplay, VerificationFiles, WorkerUrl
from headrace.errors import ConfigError
from headrace.verification.rebuild import RebuildReport, rebuild


def reindex_command(
    connector: Connector,
    files: VerificationFiles,
    url: WorkerUrl = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Switch back to the previous generation.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Discard a rebuild that is not switched yet.")] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Delete previous generations.")] = False,
    status: Annotated[bool, typer.Option("--status", help="List the generations.")] = False,
    copy_lost: Annotated[
        bool,
        typer.Option(
            "--copy-lost",
            help="Copy documents whose records the topic no longer has from the current generation.",
        ),
    ] = False,
    accept_lost: Annotated[
        bool,
        typer.Option(
            "--accept-lost",
            help="Switch even if documents are lost whose records the topic no longer has.",
        ),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Rebuild a sink's indices from its topics, with the mappings and settings of its current configuration.

      headrace reindex search worker.yaml search.yaml

    The connector keeps writing and readers are not interrupted: a new generation of the index is filled and compared,
    then the alias is switched to it. The previous generation is kept for --rollback until --drop-old. An interrupted
    run (kill -9 included) continues when the command is started again.
    """
    if sum((rollback, abort, drop_old, status)) > 1:
        text = "--rollback, --abort, --drop-old and --status cannot be used together"
        raise ConfigError(text, code="cli.conflicting_options", hint="use only one of them")
    loaded, settings, config = find_connector(connector, files, url)
    from headrace.verification.wiring import (  # late: --help needs no Kafka client
        open_history,
        open_rebuilder,
        open_verifier,
        writer_opener,
    )

    with open_history(loaded.registry, settings, config) as history, open_rebuilder(config) as rebuilder:
        if abort or drop_old:
            done = (rebuilder.abort if abort else rebuilder.delete_previous_generations)(history.topics())
            _print_done(done, json, "there is no rebuild to discard" if abort else "there is no previous generation")
        elif status:
            rows = rebuilder.describe(history.topics())
            _print_generations(rows, json)
        else:
            with open_verifier(config) as verifier, ProgressDisplay() as progress:
                report = rebuild(
                    rebuilder,
                    history,
                    writer_opener(config),
                    verifier.expected_entries,
                    rollback=rollback,
                    copy_lost=copy_lost,
                    accept_lost=accept_lost,
                    progress=progress,
                )
            _print_report(connector, report, rebuilder.describe(history.topics()), json, rollback)


def _print_done(done: Any, json: bool, nothing: str) -> None:
    if json:
        print_json({"done": list(done)})
        return
    for line in done or [nothing]:
        err.print(line, markup=False)


def _print_generations(rows: Any, json: bool) -> None:
    if json:
        print_json([dict(row) for row in rows])
        return
    columns = ("name", "generation", "state", "documents")
    print_table(columns, ([row[column] for column in columns] for row in rows))


def _print_report(connector: str, report: RebuildReport, rows: Any, json: bool, back: bool) -> None:
    if json:
        print_json(
            {
                "connector": connector,
                "resumed": report.resumed,
                "records": report.records,
                "refused": report.refused,
                "compared": report.compared,
                "lost": report.lost,
                "copied": report.copied,
                "samples": report.samples,
                "generations": [dict(row) for row in rows],
            }
        )
        return
    _print_generations(rows, json=False)
    if report.refused:
        err.print(f"{report.refused:,} records were refused: {report.refused_reason}", style="yellow", markup=False)
    if report.copied:
        err.print(f"{report.copied:,} documents without records were copied", markup=False)
    verdict = "the previous generation is in use again" if back else "the new generation is in use"
    err.print(Text(f"{connector}: {verdict}, {report.records:,} records written", style="green"))
    if not back:
        err.print("  → --rollback switches back; --drop-old deletes the previous generation", markup=False)
