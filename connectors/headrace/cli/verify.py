"""``headrace verify``: does the index say what the topics say?"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.status import Status
from rich.text import Text

from headrace.cli.finding import find_connector
from headrace.cli.output import JsonFlag, err, out, print_json, print_table
from headrace.verification.compare import Difference, VerificationReport, verify

Connector = Annotated[str, typer.Argument(metavar="CONNECTOR", help="Name of a sink connector.", show_default=False)]
ProofFiles = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="The worker's file, and the connector's unless --url has it."),
]
WorkerUrl = Annotated[
    str | None,
    typer.Option("--url", envvar="HEADRACE_URL", help="A running worker's REST API, to ask for the configuration."),
]
_DIFFERENT = 1


def verify_command(
    connector: Connector,
    files: ProofFiles,
    url: WorkerUrl = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Write what is missing or stale, remove what is extra; nothing else.")
    ] = False,
    to_end: Annotated[
        bool, typer.Option("--to-end", help="Compare with all records, not only with those the connector has written.")
    ] = False,
    samples: Annotated[int, typer.Option("--samples", min=0, metavar="N", help="Show so many of each kind.")] = 5,
    json: JsonFlag = False,
) -> None:
    """Compare what a sink has written with its topics: the last record of every key, both sides read in full.

      headrace verify search worker.yaml search.yaml

      headrace verify search worker.yaml --url http://127.0.0.1:8083 --repair

    It may run beside the connector; records that are on their way are not reported. Exit code 0: equal, or all
    repaired. 1: something is missing, stale or extra.
    """
    loaded, settings, config = find_connector(connector, files, url)
    from headrace.verification.wiring import open_history, open_verifier  # late: --help needs no Kafka client

    with open_history(loaded.registry, settings, config) as history, open_verifier(config) as verifier, Shown() as tell:
        report = verify(verifier, history, to_end=to_end, repair=repair, samples=samples, progress=tell)
    if json:
        print_json(_view(connector, report))
    else:
        _print(connector, report)
    if not report.equal:
        raise typer.Exit(_DIFFERENT)


class Shown:
    """Progress on stderr: a line that changes on a terminal, one line a step elsewhere."""

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
        ("names that they speak of", f"{report.names:,}", ""),
        ("found", f"{report.found:,}", ""),
        *((kind, f"{count:,}", "") for kind, count in report.counts.items()),
    ]
    notes = (
        ("cannot be written", report.unusable, report.unusable_reason),
        ("not written yet", report.behind, "records after the connector's committed positions; not judged"),
        ("versions ahead", report.ahead, "later records of these keys may be taken for older ones: headrace reindex"),
        ("not looked at twice", report.unexamined, "too many differences: some may only be on their way"),
        ("repaired", report.repaired, ""),
        ("not repaired", report.unrepaired, report.unrepaired_reason),
    )
    rows += [(name, f"{count:,}", why) for name, count, why in notes if count]
    print_table(("", "count", ""), rows)
    verdict = f"{connector}: equal" if not report.differences else f"{connector}: {report.differences:,} differences"
    if report.repaired:
        verdict += f", {report.repaired:,} repaired"
    err.print(Text(verdict, style="green" if report.equal else "bold red"))
    if report.expired:
        err.print("retention has removed records from the topics: what is extra may come from them", markup=False)
    if not report.equal and not report.repaired:
        err.print("  → --repair writes and removes only these", markup=False)


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
