"""``headrace tap``: records of a running task, as they pass one stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.connectors import Name
from headrace.cli.output import JsonFlag, err, out, print_json
from headrace.cli.worker_access import (
    CaFileOption,
    CertificateOption,
    TokenFileOption,
    UrlOption,
    UserOption,
    WorkerFileOption,
    worker_access,
)

_NOTHING = 1  # exit code


def tap_command(
    name: Name,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="STAGE",
            help="Source: polled, transforms.ALIAS, written. Sink: read, converted, transforms.ALIAS, written.",
        ),
    ] = "written",
    task: Annotated[int, typer.Option("--task", min=0, metavar="N", help="Which task of the connector.")] = 0,
    records: Annotated[int, typer.Option("--records", min=1, max=1_000, metavar="N", help="Most records.")] = 10,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, max=60, help="Longest wait for them.")] = 10,
    size: Annotated[
        int, typer.Option("--bytes", min=1, max=1_000_000, help="Most characters of all records together.")
    ] = 100_000,
    mask: Annotated[
        list[str] | None,
        typer.Option("--mask", metavar="FIELD", help="Hide a field: a name, or a path with dots. May be repeated."),
    ] = None,
    url: UrlOption = DEFAULT_URL,
    user: UserOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    cert: CertificateOption = None,
    worker: WorkerFileOption = None,
    json: JsonFlag = False,
) -> None:
    """Show records of a running task as they pass a stage. The task is not delayed, and nothing is changed.

      headrace tap orders --at transforms.unwrap --records 3 --mask card --mask customer.email

    A task has these stages, in this order. A source: polled (rows as the system returned them), transforms.ALIAS
    (behind that transform), written (bytes as they are sent to Kafka). A sink: read (bytes in Kafka), converted,
    transforms.ALIAS, written (what the sink writes). Only records that pass while the command waits are shown.

    Fields whose names are those of secrets (password, token, api.key …) are always hidden, and so are secrets of the
    connector's configuration. With --mask, values that are not JSON are hidden completely. The worker requires the
    role operator, and writes the request to its audit log. Exit code 1: no record passed in time.
    """
    worker_access(user, token_file, ca_file, cert, worker)
    body = {"stage": at, "records": records, "seconds": seconds, "bytes": size, "mask": mask or []}
    found = WorkerClient(url).of_connector("POST", name, f"/tasks/{task}/tap", body, prefix="/v1").body
    if json:
        print_json(found)
    else:
        for record in found["records"]:
            _print(record)
        _print_summary(name, found)
    if not found["records"]:
        raise typer.Exit(_NOTHING)


def _print(record: Mapping[str, Any]) -> None:
    place = record["topic"]
    if record["offset"] is not None:
        place += f"-{record['partition']} offset {record['offset']}"
    out.print(Text.assemble((place, "bold"), "  ", ("key ", "dim"), _text(record["key"])))
    if record["write"] is not None:
        out.print(Text.assemble(("  writes ", "dim"), record["write"]))
    if record["schema"] is not None:
        out.print(Text.assemble(("  schema ", "dim"), record["schema"]))
    for header in record["headers"]:
        out.print(Text.assemble(("  header ", "dim"), header["name"], ("=", "dim"), _text(header["value"])))
    out.print(Text(f"  {_text(record['value'])}"), soft_wrap=True)


def _print_summary(name: str, found: Mapping[str, Any]) -> None:
    count = len(found["records"])
    stage = f"{found['stage']} of task {found['task']}"
    if not count:
        err.print(f"no record passed {stage} within {found['seconds']:g} s", markup=False)
        err.print(f"  → `headrace connectors status {name}` shows what the task does; --task selects another one")
        return
    left_out = f", {found['left_out']} more left out (--bytes)" if found["left_out"] else ""
    err.print(f"{count} record{'s' if count > 1 else ''} at {stage}{left_out}", markup=False)


def _text(text: str | None) -> str:
    return "null" if text is None else text
