"""``headrace kibana``: dashboards, saved searches and alert rules over the data of sinks, as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from headrace.cli.kibana_access import (
    LOCAL,
    KibanaCaFile,
    KibanaCertificate,
    KibanaUrl,
    KibanaUser,
    kibana_access,
)
from headrace.cli.loading import has_errors, load
from headrace.cli.output import JsonFlag, err, out, print_findings, print_json
from headrace.errors import ConfigError, Finding, RetriableError
from headrace.kibana.apply import Change, apply, compare
from headrace.kibana.build import BuildOptions, build_pack
from headrace.kibana.client import KibanaClient
from headrace.kibana.pack import Pack, read_pack, write_pack
from headrace.kibana.preview import write_previews
from headrace.kibana.query_check import QueryCheck
from headrace.kibana.sinks import SearchableSink, open_sinks
from headrace.kibana.structure_check import structure_findings
from headrace.kibana.worker_dashboards import worker_data
from headrace.retries import RetryPolicy, retry

app = typer.Typer(
    name="kibana",
    help="Dashboards, saved searches and alert rules over the data of Elasticsearch sinks, as files.\n\n"
    "  headrace kibana build search.yaml --live -o pack\n\n"
    "  headrace kibana check pack search.yaml\n\n"
    "  headrace kibana apply pack --kibana http://127.0.0.1:5601\n\n",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
PackFolder = Annotated[Path, typer.Argument(metavar="PACK", help="Folder that `headrace kibana build` wrote.")]
_DIFFERENT, _MISTAKE = 1, 2  # exit codes
_STYLES = {"new": "green", "changed": "yellow", "edited": "bold red", "surplus": "dim", "same": ""}


@app.command()
def build(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of sinks; a worker's for its metrics.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="PACK", help="Folder to write.")],
    live: Annotated[
        bool, typer.Option("--live", help="Ask Elasticsearch for the fields; by default those that the files declare.")
    ] = False,
    space: Annotated[str, typer.Option("--space", help="Space of Kibana; its name is part of all ids.")] = "default",
    time_range: Annotated[str, typer.Option("--time-range", metavar="7d", help="Time that dashboards show.")] = "7d",
    time_field: Annotated[
        list[str] | None,
        typer.Option("--time-field", metavar="INDEX=FIELD", help="The time of an index's documents; repeatable."),
    ] = None,
    silence: Annotated[
        str, typer.Option("--silence", metavar="1h", help="Time without new documents that is an alert; 0: none.")
    ] = "1h",
) -> None:
    """Write the pack of some sinks: for each index a data view, a dashboard, a saved search and an alert rule.

      headrace kibana build worker.yaml connectors/*.yaml --live --output pack

    Panels are chosen by the types of fields: at most eight; never text, ids or secrets. The same input gives the same
    files, with stable ids and sorted keys, so that a diff in version control is small.
    """
    findings: list[Finding] = []
    options = BuildOptions(space, live, time_range, silence, _time_fields(time_field or []))
    with _opened(files, findings) as sinks:
        if not sinks and not has_errors(findings):
            text = "none of the files is that of a sink with searchable data"
            hint = "name the file of an ElasticsearchSink with 'topics'"
            raise ConfigError(findings=[*findings, Finding("kibana.no_sinks", text, hint=hint)])
        pack = build_pack(sinks, options, findings)
    print_findings(findings)
    if has_errors(findings):
        raise typer.Exit(_MISTAKE)
    write_pack(pack, output)
    counts = f"{len(pack.of_type('dashboard'))} dashboards, {len(pack.rules)} alert rules"
    out.print(f"{output}: {counts} for the space '{pack.space}'", markup=False)
    err.print(f"  → headrace kibana check {output} {' '.join(map(str, files))}", markup=False)


@app.command()
def check(
    folder: PackFolder,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="Files of the sinks: their Elasticsearch is asked."),
    ] = None,
    preview: Annotated[
        Path | None,
        typer.Option("--preview", metavar="FOLDER", help="Also write a picture of each dashboard's data (SVG)."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Check a pack: structure, versions and references; with the files of sinks also every field and every query.

      headrace kibana check pack search.yaml --preview pictures

    A panel fails when a field of it is not mapped, has another type, or its query returns nothing. Needs no Kibana.

    Exit code 0: nothing to fix (there may be warnings). 1: the pack does not fit the data.
    """
    if preview is not None and not files:
        text = "--preview needs the files of the sinks"
        raise ConfigError(text, code="cli.conflicting_options", hint="a picture shows data of their Elasticsearch")
    pack = read_pack(folder)
    findings = structure_findings(pack)
    lines: list[str] = []
    if files:
        with _opened(files, findings) as sinks:
            checker = QueryCheck(sinks)
            findings += checker.findings(pack)
        if preview is not None:
            write_previews(checker.results, preview)
        lines = [
            f"{result.dashboard}: {result.panel.title}: {result.documents:,} documents" for result in checker.results
        ]
    failed = has_errors(findings)
    if json:
        print_json({"ok": not failed, "findings": [asdict(each) for each in findings], "panels": lines})
    else:
        for line in lines:
            out.print(Text.assemble(("ok  ", "green"), line))
        print_findings(findings)
        if not failed:
            queries = f"{len(lines)} panels return data" if files else "no query was run: name the files of the sinks"
            out.print(f"{folder}: {len(pack.objects)} saved objects, {len(pack.rules)} rules; {queries}", markup=False)
    if failed:
        raise typer.Exit(_DIFFERENT)


@app.command()
def diff(
    folder: PackFolder,
    kibana: KibanaUrl = LOCAL,
    user: KibanaUser = None,
    ca_file: KibanaCaFile = None,
    cert: KibanaCertificate = None,
    json: JsonFlag = False,
) -> None:
    """Show what applying a pack would change. Changes nothing.

      headrace kibana diff pack --kibana https://kibana.example:5601

    new: not in Kibana. changed: an older pack was applied. edited: changed in Kibana, so only --overwrite replaces it.
    surplus: made by headrace and not in the pack; only `apply --prune` deletes it.

    Exit code 0: `apply` would change nothing. 1: it would.
    """
    pack = read_pack(folder)
    with closing(KibanaClient(kibana_access(kibana, user, ca_file, cert), pack.space)) as client:
        client.require_supported()
        found = compare(pack, client)
    changes = found.of_state("new", "changed", "edited", "surplus")
    _print_changes(pack, changes, len(found.of_state("same")), json=json)
    if found.of_state("new", "changed", "edited"):
        raise typer.Exit(_DIFFERENT)


@app.command("apply")
def apply_command(
    folder: PackFolder,
    kibana: KibanaUrl = LOCAL,
    user: KibanaUser = None,
    ca_file: KibanaCaFile = None,
    cert: KibanaCertificate = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace objects that were edited in Kibana.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete objects of headrace that the pack lacks.")] = False,
    wait: Annotated[
        int, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for Kibana to start.")
    ] = 0,
    json: JsonFlag = False,
) -> None:
    """Import a pack into its space of Kibana, and compare Kibana with it afterwards.

      headrace kibana apply pack --kibana https://kibana.example:5601

    Applying twice changes nothing. If an object was edited in Kibana, nothing is written without --overwrite. Labels,
    formats and runtime fields of data views, and the actions of rules, stay as users have set them.
    """
    pack = read_pack(folder)
    if has_errors(findings := structure_findings(pack)):
        raise ConfigError(findings=findings)
    with closing(KibanaClient(kibana_access(kibana, user, ca_file, cert), pack.space)) as client:
        _wait_for(client, wait)
        found = apply(pack, client, overwrite=overwrite, prune=prune)
    states = ("new", "changed", "edited", "surplus") if prune else ("new", "changed", "edited")
    _print_changes(
        pack, [each for each in found.changes if each.state in states], len(found.of_state("same")), json=json
    )
    if not json:
        err.print(f"Kibana at {client.url} has the pack", style="green", markup=False)


@contextmanager
def _opened(files: Sequence[Path], findings: list[Finding]) -> Iterator[list[SearchableSink]]:
    loaded = load(files)
    if has_errors(loaded.findings):
        raise ConfigError(findings=loaded.findings)
    with open_sinks(loaded.configs.values(), findings) as sinks:
        workers = worker_data(loaded.settings)
        if workers is None:
            yield sinks
            return
        with closing(workers.data):
            yield [*sinks, workers]


def _time_fields(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if not all(pair.partition("=")):
            text = f"--time-field {pair}: not of the form INDEX=FIELD"
            raise ConfigError(text, code="kibana.bad_time_field", hint="for example shop.orders=updated_at")
    return {index: field for index, _, field in (pair.partition("=") for pair in pairs)}


def _wait_for(client: KibanaClient, seconds: int) -> None:
    def waiting(error: RetriableError, failures: int) -> None:
        err.print(f"waiting for Kibana: {error.message}", markup=False)

    retry(client.require_supported, policy=RetryPolicy(longest=2.0, timeout=seconds), on_failure=waiting)


def _print_changes(pack: Pack, changes: Sequence[Change], same: int, *, json: bool) -> None:
    if json:
        print_json({"space": pack.space, "same": same, "changes": [asdict(change) for change in changes]})
        return
    for change in changes:
        out.print(Text.assemble((f"{change.state:<8}", _STYLES[change.state]), f"{change.type}: {change.title}"))
        for line in change.differences:
            out.print(Text(f"        {line}"))
    out.print(f"{len(changes)} objects differ, {same} are equal", markup=False)
