"""A small stream of inserts and updates, so that the demo shows changes and not only the first load."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from demo.dataset import Impression
from demo.loader import connect
from demo.tables import CONVERSIONS, IMPRESSIONS, OFFERS, Table


@dataclass(frozen=True, slots=True)
class Write:
    """A row that was committed. ``updated_at`` is None for rows that never change.

    ``committed`` is the monotonic time in seconds at which the commit was *sent*: the measured freshness
    includes the duration of the commit.
    """

    table: Table
    id: int
    updated_at: datetime | None
    committed: float


class Trickle:
    """Writes ``rate`` transactions a second on its own thread until stopped.

    Impressions are real ones, shown again now; clicked ones are drawn far more often than they occur (one click in
    250 impressions would leave the conversions table still for minutes).
    """

    def __init__(
        self,
        url: str,
        impressions: Sequence[Impression],
        on_write: Callable[[Write], None],
        *,
        rate: float = 5.0,
        seed: int = 7,
    ) -> None:
        self._url = url
        self._impressions = impressions
        self._clicked = [impression for impression in impressions if impression.clicked]
        self._on_write = on_write
        self._interval = 1 / rate
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trickle", daemon=True)
        self.writes = 0
        self.error: Exception | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the present transaction. May be called twice."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            with connect(self._url) as connection:
                while not self._stop.wait(self._interval):
                    self.step(connection)
        except Exception as error:  # the main thread reports it and ends the demo
            self.error = error

    def step(self, connection: psycopg.Connection[Any]) -> list[Write]:
        """Run one transaction, and pass its rows to ``on_write``."""
        step = self._random.choices((self._show, self._reprice, self._judge), weights=(6, 2, 2))[0]
        with connection.cursor() as cursor:
            rows = step(cursor)
        committed = time.monotonic()
        connection.commit()
        writes = [Write(table, id_, updated_at, committed) for table, id_, updated_at in rows]
        for write in writes:
            self.writes += 1
            self._on_write(write)
        return writes

    def _show(self, cursor: psycopg.Cursor[Any]) -> list[tuple[Table, int, datetime | None]]:
        """Insert an impression; if it was clicked, also a conversion and a click of its offer."""
        pool = self._clicked if self._clicked and self._random.random() < 0.4 else self._impressions
        shown, now = self._random.choice(pool), datetime.now(UTC)
        cursor.execute(
            "INSERT INTO impressions (policy, offer_id, position, propensity, user_features, affinities, shown_at) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING impression_id",
            (shown.policy, shown.offer_id, shown.position, shown.propensity, Jsonb(shown.user),
             Jsonb(shown.affinities), now),
        )  # fmt: skip
        impression_id = _row(cursor)[0]
        rows: list[tuple[Table, int, datetime | None]] = [(IMPRESSIONS, impression_id, None)]
        if shown.clicked:
            cursor.execute(
                "UPDATE offers SET clicks = clicks + 1 WHERE offer_id = %s RETURNING payout, updated_at",
                (shown.offer_id,),
            )
            payout, updated_at = _row(cursor)
            rows.append((OFFERS, shown.offer_id, updated_at))
            cursor.execute(
                "INSERT INTO conversions (impression_id, payout, converted_at) VALUES (%s, %s, %s) "
                "RETURNING conversion_id, updated_at",
                (impression_id, payout, now),
            )
            rows.append((CONVERSIONS, *_row(cursor)))
        return rows

    def _reprice(self, cursor: psycopg.Cursor[Any]) -> list[tuple[Table, int, datetime | None]]:
        """Change the payout of an offer, and sometimes its status."""
        payout = Decimal(self._random.randrange(50, 500)) / 100
        status = self._random.choices(("live", "paused"), weights=(9, 1))[0]
        cursor.execute(
            "UPDATE offers SET payout = %s, status = %s WHERE offer_id = %s RETURNING offer_id, updated_at",
            (payout, status, self._random.choice(self._impressions).offer_id),
        )
        return [(OFFERS, *_row(cursor))]

    def _judge(self, cursor: psycopg.Cursor[Any]) -> list[tuple[Table, int, datetime | None]]:
        """Confirm or reverse the oldest pending conversion, if there is one."""
        status = self._random.choices(("confirmed", "reversed"), weights=(9, 1))[0]
        cursor.execute(
            "UPDATE conversions SET status = %s WHERE conversion_id = "
            "(SELECT min(conversion_id) FROM conversions WHERE status = 'pending') RETURNING conversion_id, updated_at",
            (status,),
        )
        row = cursor.fetchone()
        return [] if row is None else [(CONVERSIONS, *row)]


def _row(cursor: psycopg.Cursor[Any]) -> tuple[Any, ...]:
    row: tuple[Any, ...] | None = cursor.fetchone()
    if row is None:
        raise LookupError("the statement returned no row")
    return row
