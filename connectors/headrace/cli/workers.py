"""``headrace workers``: the workers of a group, and the problems of its setup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.output import JsonFlag, print_findings, print_json, print_table
from headrace.cli.worker_access import (
    CaFileOption,
    CertificateOption,
    TokenFileOption,
    UrlOption,
    UserOption,
    WorkerFileOption,
    worker_access,
)
from headrace.errors import Finding

_COLUMNS = ("worker", "", "version", "clock")


def workers(
    url: UrlOption = DEFAULT_URL,
    user: UserOption = None,
    token_file: TokenFileOption = None,
    ca_file: CaFileOption = None,
    cert: CertificateOption = None,
    worker: WorkerFileOption = None,
    json: JsonFlag = False,
) -> None:
    """List the workers of a group, the leader, their versions and the differences of their clocks.

      headrace workers

    Exit code 0: no problems. 1: the group is not set up correctly; each problem has the command that helps.
    """
    worker_access(user, token_file, ca_file, cert, worker)
    answer = WorkerClient(url).request("GET", "/v1/workers").body
    if json:
        print_json(answer)
    else:
        print_table(_COLUMNS, [_row(item) for item in answer["workers"]])
        print_findings([Finding(item["code"], item["message"], hint=item["hint"]) for item in answer["problems"]])
    if answer["problems"]:
        raise typer.Exit(1)


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    ahead = item.get("clock_ahead_ms")
    return (
        item["worker_id"],
        "leader" if item["leader"] else "",
        item["version"],
        "" if ahead is None else f"{ahead / 1000:+.1f} s",
    )
