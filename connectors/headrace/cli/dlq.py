"""``headrace dlq``: list, show, retry and discard the dead letters of a connector of a running worker."""

from __future__ import annotations

import time
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.text import Text

from headrace.cli.client import DEFAULT_URL, WorkerClient
from headrace.cli.connectors import Name
from headrace.cli.output import JsonFlag, err, out, print_json, print_table
from headrace.cli.status_view import age
from headrace.cli.verify import ProgressDisplay
from headrace.cli.worker_access import UrlOption, worker_access
from headrace.errors import HeadraceError
from headrace.metrics import now_ms

app = typer.Typer(
    name="dlq",
    help="Work with the dead letters of a connector.",
    no_args_is_help=True,
    callback=worker_access,
)
Group = Annotated[
    str | None,
    typer.Option("--group", metavar="CODE", help="Only this group: a code, or code:field as `list` prints it."),
]
_POLL = 0.2  # seconds between looks at a running job


@app.command("list")
def list_groups(name: Name, url: UrlOption = DEFAULT_URL, json: JsonFlag = False) -> None:
    """List the open letters by error code and field. Prints no contents of records."""
    found = _whole_queue(url, name)
    if json:
        print_json(found)
        return
    now = now_ms()
    columns = ("group", "letters", "first", "last", "example", "reason")
    print_table(
        columns,
        (
            (
                item["group"],
                item["count"],
                f"{age(item['first'], now)} ago",
                f"{age(item['last'], now)} ago",
                item["example"]["record"] or item["example"]["place"],
                item["example"]["reason"],
            )
            for item in found["groups"]
        ),
    )
    for hint in dict.fromkeys(item["example"]["hint"] for item in found["groups"] if item["example"]["hint"]):
        err.print(f"  → {hint}", markup=False)
    marked = "".join(f", {count:,} {mark}" for mark, count in found["marked"].items())
    err.print(f"{found['open']:,} open letters in {found['topic']}{marked}", markup=False)


@app.command("show")
def show(
    name: Name,
    group: Group = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1_000, help="How many, the newest.")] = 10,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Print letters with headers, key and value. The output has the contents of records."""
    query = f"/letters?limit={limit}" + (f"&group={quote(group, safe='')}" if group is not None else "")
    letters = _request(url, "GET", name, query)
    if json:
        print_json(letters)
        return
    for letter in letters:
        title = f"letter {letter['partition']}:{letter['offset']}  {letter['group']}"
        out.print(Text(title + (f"  retries: {letter['retries']}" if letter["retries"] else ""), style="bold"))
        for header in letter["headers"]:
            lines = (_readable(header) or "").splitlines() or [""]
            out.print(Text(f"  {header['name']}: {lines[0]}"))
            for line in lines[1:]:
                out.print(Text(f"    {line}"))
        out.print(Text(f"  key: {_readable(letter['key'])}"))
        out.print(Text(f"  value: {_readable(letter['value'])}"))
    if not letters:
        err.print("no open letters")


@app.command("retry")
def retry(
    name: Name,
    group: Group = None,
    dry: Annotated[bool, typer.Option("--try", help="Write nothing; print what would happen to each group.")] = False,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Write the open letters of a sink again, through its configuration as it is now.

      headrace dlq retry search --group elasticsearch.document_rejected --try

    A newer record of the same key is never overwritten. A letter that is refused again goes back with the new reason.
    """
    _run(url, name, "retry", {"group": group, "try": dry}, json)


@app.command("discard")
def discard(
    name: Name,
    group: Group = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: UrlOption = DEFAULT_URL,
    json: JsonFlag = False,
) -> None:
    """Mark open letters as discarded: they are not listed and not retried any more. They remain in Kafka."""
    if not yes:
        typer.confirm(f"Discard {group or 'all'} open letters of {name}?", abort=True, err=True)
    _run(url, name, "discard", {"group": group}, json)


def _whole_queue(url: str, name: str) -> Any:
    """Return the groups of all parts of the queue."""
    part = found = _request(url, "GET", name)
    groups = {item["group"]: item for item in found["groups"]}
    read = 0
    with ProgressDisplay() as progress:
        while part["next"] is not None:
            left = part["left"]
            progress("reading letters", read, read + left)
            part = _request(url, "GET", name, f"?after={part['next']}")
            read += max(0, left - part["left"])
            for item in part["groups"]:
                before = groups.setdefault(item["group"], item)
                if before is not item:
                    newer = item if item["last"] >= before["last"] else before
                    groups[item["group"]] = {
                        **newer,
                        "count": before["count"] + item["count"],
                        "first": min(before["first"], item["first"]),
                    }
            found["open"] += part["open"]
            for mark, count in part["marked"].items():
                found["marked"][mark] = found["marked"].get(mark, 0) + count
    found["groups"] = sorted(groups.values(), key=lambda item: -item["count"])
    del found["next"], found["left"]
    return found


def _run(url: str, name: str, action: str, body: dict[str, Any], json: bool) -> None:
    job = _request(url, "POST", name, f"/{action}", body)
    with ProgressDisplay() as progress:
        while job["state"] == "RUNNING":
            progress(job["step"], job["done"], job["of"])
            time.sleep(_POLL)
            job = _request(url, "GET", name, "/job")
    if json:
        print_json(job)
    else:
        _print_outcomes(job)
    if job["state"] == "FAILED":
        raise HeadraceError(
            f"the {action} of the dead letters of {name} ended early: {job['error']}",
            code="dlq.failed",
            hint="letters without a mark are still open: fix the cause and run the command again",
        )


def _print_outcomes(job: dict[str, Any]) -> None:
    rows = [
        (item["group"], outcome, f"{count:,}", (item["reason"] or "") if outcome in _WITH_REASON else "")
        for item in job["groups"]
        for outcome, count in item["counts"].items()
    ]
    print_table(("group", "would be" if job["try"] else "result", "letters", "reason"), rows)
    if job["try"]:
        err.print("nothing was written; the sink's system may still refuse what passes these checks")
    elif not rows:
        err.print("no open letters")


_WITH_REASON = ("refused again", "left open")


def _readable(data: dict[str, str | None]) -> str | None:
    if "base64" in data:
        return f"(base64) {data['base64']}"
    return data["text"]


def _request(url: str, method: str, name: str, rest: str = "", body: Any = None) -> Any:
    return WorkerClient(url).of_connector(method, name, f"/dead-letters{rest}", body, prefix="/v1").body
