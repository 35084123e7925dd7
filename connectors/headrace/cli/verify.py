"""``headrace verify``: compare a sink's index with its topics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status
from rich.text import Text

from headrace.cli.connector_lookup import find_connector
from headrace.cli.output import JsonFlag, err, out, print_json, print_table
from headrace.verification.compare import Difference, VerificationReport, verify

Connector = Annotated[str, typer.Argument(metavar="CONNECTOR", help="Name of a sink connector.", show_default=False)]
VerificationFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="The worker's file; also the connector's, unless --url is given."),
]
WorkerUrl = Annotated[
    str | None,
    typer.Option("--url", envvar="HEADRACE_URL", help="REST API of a running worker that has the connector."),
]
_DIFFERENT = 1


def verify_command(
    connector: Connector,
    files: VerificationFiles,
    url: WorkerUrl = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write missing and stale documents, delete extra ones.")
    ] = False,
    to_end: Annotated[
        bool,
        typer.Option("--to-end", help="Compare with all records, not only the committed ones."),
    ] = False,
    samples: Annotated[
        int,
        typer.Option("--samples", min=0, metavar="N", help="Examples to show per kind of difference."),
    ] = 5,
    json: JsonFlag = False,
) -> None:
    """Compare a sink's index with its topics: the last record of every key. Both sides are read completely.

      headrace verify search worker.yaml search.yaml

      headrace verify search worker.yaml --url http://127.0.0.1:8083 --repair

    The connector may keep running; records in flight are not reported. Exit code 0: equal, or everything was repaired.
    1: documents are missing, stale or extra.
    """
    loaded, settings, config = find_connector(connector, files, url)
    from headrace.verification.wiring import open_history, open_verifier  # late: --help needs no Kafka client

    with (
        open_history(loaded.registry, settings, config) as history,
        open_verifier(config) as verifier,
        ProgressDisplay() as progress,
    ):
        report = verify(verifier, history, to_end=to_end, repair=repair, samples=samples, progress=progress)
    if json:
        print_json(_view(connector, report))
    else:
        _print(connector, report)
    if not report.equal:
        raise typer.Exit(_DIFFERENT)


class ProgressDisplay:
    """Shows progress on stderr: one changing line on a terminal, one line per step elsewhere."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._step = ""

    def __enter__(self) -> Callable[[str, int, int], None]:
        if err.is_terminal:
            self._status = err.status("starting")
            self._status.start()
        return self._tell

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def _tell(self, step: str, done: int, whole: int) -> None:
        if self._status is not None:
            self._status.update(f"{step}: {done:,} of {whole:,}" if whole else f"{step}: {done:,}")
        elif step != self._step:
            err.print(f"{step} …", markup=False)
        self._step = step


def _print(connector: str, report: VerificationReport) -> None:
    for difference in report.samples:
        line = Text.assemble((f"{difference.kind:8}", "red"), difference.title, ("  " + _why(difference), "dim"))
        out.print(line)
    if report.samples and report.differences > len(report.samples):
        out.print(f"… {report.differences - len(report.samples):,} more are not shown")
    rows = [
        ("records read", f"{report.records:,}", ""),
        ("documents expected from them", f"{report.names:,}", ""),
        ("found", f"{report.found:,}", ""),
        *((kind, f"{count:,}", "") for kind, count in report.counts.items()),
    ]
    notes = (
        ("cannot be written", report.unusable, report.unusable_reason),
        ("not written yet", report.behind, "records after the connector's committed offsets; not compared"),
        (
            "versions ahead",
            report.ahead,
            "later records of these keys may be ignored as outdated: headrace reindex",
        ),
        (
            "contested",
            report.contested,
            f"{report.contested_example}; offsets are the versions, so the newest record is ignored as outdated: set "
            "external.version.header, or give each topic its own index",
        ),
        ("not compared again", report.unexamined, "too many differences: some of these records may be in flight"),
        ("repaired", report.repaired, ""),
        ("not repaired", report.unrepaired, report.unrepaired_reason),
    )
    rows += [(name, f"{count:,}", why) for name, count, why in notes if count]
    print_table(("", "count", ""), rows)
    summary = f"{connector}: equal" if not report.differences else f"{connector}: {report.differences:,} differences"
    if report.contested:
        summary = f"{connector}: {report.differences:,} differences, {report.contested:,} contested keys"
    if report.repaired:
        summary += f", {report.repaired:,} repaired"
    err.print(Text(summary, style="green" if report.equal else "bold red"))
    if report.expired:
        err.print("retention has removed records from the topics: extra documents may come from them", markup=False)
    if report.differences and not report.repaired:
        err.print("  → --repair writes and deletes only these documents", markup=False)


def _why(difference: Difference) -> str:
    where = f"{difference.record[0]} at offset {difference.record[1]}" if difference.record else "no record"
    versions = [
        f"{word} {entry.version}"
        for word, entry in (("version", difference.expected), ("there", difference.present))
        if entry is not None and entry.version >= 0
    ]
    return f"{where}{' (' + ', '.join(versions) + ')' if versions else ''}"


def _view(connector: str, report: VerificationReport) -> dict[str, Any]:
    return {
        "connector": connector,
        "equal": report.equal,
        "records": report.records,
        "names": report.names,
        "found": report.found,
        **report.counts,
        "unusable": report.unusable,
        "behind": report.behind,
        "ahead": report.ahead,
        "contested": report.contested,
        "unexamined": report.unexamined,
        "expired": report.expired,
        "repaired": report.repaired,
        "unrepaired": report.unrepaired,
        "samples": [
            {
                "kind": difference.kind,
                "name": difference.title,
                "topic": difference.record[0].topic if difference.record else None,
                "partition": difference.record[0].partition if difference.record else None,
                "offset": difference.record[1] if difference.record else None,
                "version": difference.present.version if difference.present else None,
            }
            for difference in report.samples
        ],
    }
