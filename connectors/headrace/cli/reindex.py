"""``headrace reindex``: a sink's indices built anew without downtime, and the way back."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from headrace.cli.finding import find_connector
from headrace.cli.output import JsonFlag, err, print_json, print_table
from headrace.cli.verify import Connector, ProofFiles, Shown, WorkerUrl
from headrace.errors import ConfigError
from headrace.verification.rebuild import RebuildReport, rebuild


def reindex_command(
    connector: Connector,
    files: ProofFiles,
    url: WorkerUrl = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Put the previous generation back in place.")] = False,
    abort: Annotated[bool, typer.Option("--abort", help="Undo a rebuild that has not been switched yet.")] = False,
    drop_old: Annotated[bool, typer.Option("--drop-old", help="Delete previous generations.")] = False,
    status: Annotated[bool, typer.Option("--status", help="List the generations.")] = False,
    accept_lost: Annotated[
        bool,
        typer.Option("--accept-lost", help="Switch even if documents are missing whose records the topic lost."),
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Build a sink's indices anew from its topics, with the mapping and settings that its file says now.

      headrace reindex search worker.yaml search.yaml

    The connector goes on writing, readers notice nothing: the new generation is filled beside the present one,
    compared with it, and put in its place at once. The previous one is kept until --drop-old, for --rollback. A run
    that was broken off, by kill -9 too, goes on when it is started again.
    """
    if sum((rollback, abort, drop_old, status)) > 1:
        text = "--rollback, --abort, --drop-old and --status cannot be used together"
        raise ConfigError(text, code="cli.conflicting_options", hint="leave out all but one")
    loaded, settings, config = find_connector(connector, files, url)
    from headrace.verification.wiring import (  # late, for --help
        open_history,
        open_rebuilder,
        open_verifier,
        writer_opener,
    )

    with open_history(loaded.registry, settings, config) as history, open_rebuilder(config) as rebuilder:
        if abort or drop_old:
            done = (rebuilder.abort if abort else rebuilder.delete_previous_generations)(history.topics())
            _tell_done(done, json, "there is nothing to undo" if abort else "there is no previous generation")
        elif status:
            rows = rebuilder.describe(history.topics())
            _print_generations(rows, json)
        else:
            with open_verifier(config) as verifier, Shown() as tell:
                report = rebuild(
                    rebuilder,
                    history,
                    writer_opener(config),
                    verifier.expected_entries,
                    rollback=rollback,
                    accept_lost=accept_lost,
                    progress=tell,
                )
            _print_report(connector, report, rebuilder.describe(history.topics()), json, rollback)


def _tell_done(done: Any, json: bool, nothing: str) -> None:
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
                "samples": report.samples,
                "generations": [dict(row) for row in rows],
            }
        )
        return
    _print_generations(rows, json=False)
    if report.refused:
        err.print(f"{report.refused:,} records were refused: {report.refused_reason}", style="yellow", markup=False)
    verdict = "the previous generation is back in place" if back else "the new generation is in place"
    err.print(Text(f"{connector}: {verdict}, {report.records:,} records written", style="green"))
    if not back:
        err.print("  → --rollback goes back; --drop-old deletes the previous one", markup=False)
