"""The faults that tests inject, and what headrace says about each. docs/operations/faults.md shows the table.

``says`` are parts of the status, and ``todo`` are parts of the next step in it. The page also keeps the scores that the
last complete run of :data:`TEST` has observed; that test compares them, or writes them when WRITE is set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "operations" / "faults.md"
TEST = "tests/system/test_fault_table.py"
WRITE = "HEADRACE_WRITE_FAULTS"
"""The environment variable with which the test writes the page."""
SEEN = 10.0
"""Seconds within which status and log must name the cause."""
_SCORE = re.compile(r"^\| (?P<number>\w+) \|.*\| (?P<score>[0-3]) \|$", re.MULTILINE)


@dataclass(frozen=True)
class FaultRow:
    """A fault."""

    number: str
    fault: str
    says: tuple[str, ...]
    todo: tuple[str, ...]
    heals: str


_BY_ITSELF = "yes"
_STARTED = "yes, it is started again within 10 s, later at longer intervals"

ROWS = (
    FaultRow(
        "1",
        "The database's password is changed",
        ("sql.authentication", "refuses user"),
        ("correct connection.user or connection.password",),
        f"{_STARTED}; placeholders are resolved again",
    ),
    FaultRow("2", "The database is down", ("cannot be reached",), ("that host and port are correct",), "yes"),
    FaultRow(
        "3",
        "The database does not answer (black hole, or answers take seconds)",
        ("waiting for the database", "does not answer while it reads"),
        ("another connection is not answered either",),
        _BY_ITSELF,
    ),
    FaultRow(
        "4",
        "A table is locked",
        ("it waits for a lock that process", "application", "last statement: LOCK TABLE"),
        ("SELECT pg_terminate_backend(",),
        _BY_ITSELF,
    ),
    FaultRow(
        "5",
        "A table is dropped",
        ("cannot be read",),
        ("create the table again",),
        "yes, even if it is the only table of a task",
    ),
    FaultRow(
        "6",
        "A cursor column is renamed",
        ("has no column",),
        ("did you mean",),
        "yes, when the column has its name again",
    ),
    FaultRow(
        "6b",
        "Another column is renamed or dropped",
        ("sql.columns_gone", "rows have fewer columns"),
        ("rename the field by a transform", "headrace verify"),
        "no: the condition stays until it is acknowledged",
    ),
    FaultRow(
        "7",
        "The type of a column is changed",
        ("maps fields differently from the schema",),
        ("`headrace reindex NAME FILE…`",),
        "no: after this command, which keeps the old index searchable",
    ),
    FaultRow(
        "8",
        "The disk of the worker's offsets is full",
        ("positions cannot be stored", "cannot write"),
        ("the next attempt is made with the next flush",),
        _BY_ITSELF,
    ),
    FaultRow(
        "9",
        "Kafka is down",
        ("waiting for Kafka", "does not answer"),
        ("broker 127.0.0.1:",),
        "yes; idle connectors report it, too",
    ),
    FaultRow(
        "10",
        "A Kafka topic is deleted and created again",
        ("deleted and created again",),
        ("`headrace reindex NAME FILE…`",),
        "no: after this command, with the next record; a condition stays until it is acknowledged",
    ),
    FaultRow(
        "11",
        "More tasks than partitions",
        ("no partition is left for this task: 1 partition for 4 tasks",),
        ("set tasks.max to 1",),
        "after the change of the configuration",
    ),
    FaultRow(
        "12",
        "An ACL of a topic is missing",
        ("kafka.not_authorized", "not authorized"),
        ("WRITE on TOPIC", "kafka-acls.sh --add"),
        _STARTED,
    ),
    FaultRow(
        "13",
        "A record is too large for Kafka",
        ("data.record_too_large", "row id=2"),
        ("producer.override.max.request.size",),
        "after the change of the configuration",
    ),
    FaultRow(
        "14",
        "Elasticsearch is down",
        ("Elasticsearch at http://127.0.0.1:", "cannot be reached"),
        ("connection.url",),
        _BY_ITSELF,
    ),
    FaultRow("15", "Elasticsearch is overloaded (429)", ("Elasticsearch is overloaded",), ("HTTP 429",), _BY_ITSELF),
    FaultRow("16", "Elasticsearch's disks are full", ("disks are full",), ("free disk space",), _BY_ITSELF),
    FaultRow(
        "17",
        "The mapping of an index conflicts with the schema",
        ("maps fields differently from the schema",),
        ("`headrace reindex NAME FILE…`",),
        "no: after this command, which keeps the old index searchable",
    ),
    FaultRow(
        "18",
        "An index is deleted",
        ("was deleted while this connector wrote to it",),
        ("headrace verify NAME --repair",),
        "the index, yes; its documents, after this command; the condition stays until it is acknowledged",
    ),
    FaultRow(
        "19",
        "An index has no active shard",
        ("primary shard is not active: shard 0 of index", "cluster.routing.allocation.enable=none"),
        ("GET _cluster/allocation/explain",),
        _BY_ITSELF,
    ),
    FaultRow(
        "20",
        "The connector may not write to the dead letter queue",
        ("the dead letter queue", "errors.deadletterqueue.topic.name"),
        ("CREATE, DESCRIBE and WRITE on topic",),
        _STARTED,
    ),
    FaultRow(
        "21",
        "A mistake in a configuration over REST",
        ("unknown configuration key",),
        ("did you mean",),
        "not applicable: nothing was changed",
    ),
    FaultRow(
        "22", "The REST port is in use", ("rest.port_in_use",), ("listeners",), "the worker ends with exit code 3"
    ),
    FaultRow(
        "23",
        "The worker is killed and started again",
        ("has assigned 0 of at least 1 partitions", "A worker that was killed is a member"),
        ("wait for that",),
        "yes, after session.timeout.ms",
    ),
    FaultRow(
        "24",
        "The system clock is set back by an hour",
        ("the system clock was set back by",),
        ("no table waits longer than its interval",),
        _BY_ITSELF,
    ),
    FaultRow(
        "25",
        "A second worker uses the same files",
        ("store.locked", "is in use by another worker"),
        ("its own offset.storage.file.filename",),
        "the second worker ends with exit code 3",
    ),
    FaultRow(
        "25b",
        "A second worker runs the same sink",
        ("another member has the others",),
        ("give one of them another name",),
        "yes, when one of them ends",
    ),
    FaultRow(
        "26",
        "The offsets file is damaged",
        ("store.damaged", "offsets.jsonl:1"),
        ("restore the file from a copy",),
        "the worker ends with exit code 2",
    ),
    FaultRow(
        "27",
        "A configuration file is changed while its connector runs",
        ("has changed, and the connector runs with its former configuration", "poll.interval.ms changed"),
        ("headrace connectors apply",),
        "after the change is applied or undone",
    ),
    FaultRow(
        "28",
        "A transaction that has written stays open",
        ("the stored position waits for process",),
        ("a restart would send",),
        "yes, when it ends",
    ),
)


def page(scores: Mapping[str, int], rows: Iterable[FaultRow] = ROWS) -> str:
    """Return the page of the documentation, with the scores that were observed."""
    lines = [
        "# Faults, and what headrace says",
        "",
        f"Generated by `{WRITE}=1 pytest {TEST}`: do not edit. The same test without the",
        "variable fails when the scores that it observes are not those of this page.",
        "",
        "Each fault is injected into a running worker. *Says* and *what to do* are parts of `headrace connectors",
        "status`, or of the message with which a command ends. The score counts what the test has observed: within",
        f"{SEEN:.0f} s status and log name the cause, and the status the next step; the connector continues as the",
        "table says, and its status has no reason left.",
        "",
        "| | fault | says | what to do | continues by itself | score |",
        "|--|---|---|---|---|--|",
    ]
    lines += [
        f"| {row.number} | {row.fault} | {_quoted(row.says)} | {_quoted(row.todo)} | {row.heals} "
        f"| {scores.get(row.number, 'not observed')} |"
        for row in rows
    ]
    lines += [
        "",
        "The disk of fault 8 is full for the worker's process only (a limit on the size of its files). The clock of",
        "fault 24 is the one that the source reads: the clock of the machine is shared by all that runs on it.",
    ]
    return "\n".join(lines) + "\n"


def scores_of(text: str) -> dict[str, int]:
    """Return the scores that a page shows, by number of the fault; a fault without one has not been observed."""
    return {found["number"]: int(found["score"]) for found in _SCORE.finditer(text)}


def _quoted(words: Iterable[str]) -> str:
    return "<br>".join(f"`{word.strip('`')}`" for word in words)
