"""Keys that say how deleted rows are found."""

from __future__ import annotations

from typing import Annotated, Literal

from headrace import LOWER, key
from headrace_sources.sql.configuration.load_keys import LoadKeys

_DELETES = "Deletes"


class DeleteKeys(LoadKeys):
    """Part of the SQL source's configuration."""

    delete_detection: Annotated[Literal["none", "soft", "reconcile"], LOWER] = key(
        "delete.detection",
        default="none",
        doc="How deleted rows become tombstones (records with a key and no value, by which sinks delete). `soft`: the "
        "application marks them in `delete.soft.column`. `reconcile`: from time to time the table's keys are compared "
        "with those that were sent. Both need a record key. See docs/deletes.md.",
        importance="high",
        group=_DELETES,
    )
    soft_column: str = key(
        "delete.soft.column",
        default="",
        doc="With `delete.detection=soft`: the row counts as deleted when this column is true, a number other than 0, "
        "a moment, or a text other than `false`, `f`, `no`, `n`, `0` and the empty one. For any other rule write a "
        "`query` with an expression: `SELECT *, status = 'gone' AS deleted FROM …`.",
        group=_DELETES,
    )
    reconcile_schedule: str = key(
        "delete.reconcile.schedule",
        default="1h",
        doc="With `delete.detection=reconcile`: the pause between two comparisons, or a cron expression of five "
        "fields, in UTC.",
        group=_DELETES,
    )
    max_fraction: float = key(
        "delete.max.fraction",
        default=0.2,
        ge=0.0,
        le=1.0,
        doc="A comparison that finds more than this part of the keys gone (and more than 10 of them) deletes nothing: "
        "the status says so, rows go on. A table that was emptied by mistake does not empty the index. 1 = no limit.",
        group=_DELETES,
    )
    ledger_directory: str = key(
        "delete.ledger.directory",
        default="ledgers",
        doc="With `delete.detection=reconcile`: folder for the keys that were sent, one file for each table, 20 to "
        "60 bytes a key. Keep it with the worker's positions. Where it is missing it is made anew from the table; rows "
        "deleted before that stay unknown.",
        group=_DELETES,
    )
