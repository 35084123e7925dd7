"""Loads the sample into PostgreSQL: schema and rows in one transaction, rows with COPY.

Also a command, for a separate PostgreSQL: ``python -m demo.loader postgresql+psycopg://user:password@host/database``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from sqlalchemy import make_url

from demo import dataset as sample
from demo.dataset import Dataset
from headrace.errors import HeadraceError, InfrastructureError

SCHEMA = Path(__file__).with_name("schema.sql")
TABLES = ("offers", "impressions", "conversions")
PAYOUT = Decimal("1.00")


def libpq_url(url: str) -> str:
    """Return SQLAlchemy's URL (``postgresql+psycopg://…``) in the form of the driver."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def connect(url: str, *, autocommit: bool = False) -> psycopg.Connection[tuple[Any, ...]]:
    """Connect to the demo's database, whose URL is SQLAlchemy's. Raises InfrastructureError."""
    try:
        return psycopg.connect(libpq_url(url), autocommit=autocommit, application_name="headrace demo")
    except psycopg.OperationalError as error:
        raise InfrastructureError(
            f"PostgreSQL does not let the demo in: {str(error).strip().splitlines()[-1]}", code="demo.database"
        ) from error


def load(url: str, dataset: Dataset) -> dict[str, int]:
    """Create missing tables and fill empty ones. Return the number of rows by table."""
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('conversions') IS NULL")
        if cursor.fetchone() == (True,):
            cursor.execute(SCHEMA.read_bytes())
        if _count(cursor, "offers") == 0:
            _fill(cursor, dataset)
        return {table: _count(cursor, table) for table in TABLES}


def _fill(cursor: psycopg.Cursor[Any], dataset: Dataset) -> None:
    clicks = dict.fromkeys((offer.offer_id for offer in dataset.offers), 0)
    for impression in dataset.impressions:
        clicks[impression.offer_id] += impression.clicked
    _copy(
        cursor,
        "offers (offer_id, score, features, payout, clicks)",
        ((o.offer_id, o.score, Jsonb(o.features), PAYOUT, clicks[o.offer_id]) for o in dataset.offers),
    )
    numbered = list(enumerate(dataset.impressions, start=1))
    _copy(
        cursor,
        "impressions (impression_id, policy, offer_id, position, propensity, user_features, affinities, shown_at)",
        (
            (n, i.policy, i.offer_id, i.position, i.propensity, Jsonb(i.user), Jsonb(i.affinities), i.shown_at)
            for n, i in numbered
        ),
    )
    # The log has no time of the click, so the time of the impression is used.
    clicked = [(number, impression.shown_at) for number, impression in numbered if impression.clicked]
    _copy(
        cursor,
        "conversions (conversion_id, impression_id, status, payout, converted_at)",
        ((n, impression_id, "confirmed", PAYOUT, moment) for n, (impression_id, moment) in enumerate(clicked, start=1)),
    )
    for table, key in (("impressions", "impression_id"), ("conversions", "conversion_id")):
        cursor.execute(
            sql.SQL("SELECT setval(pg_get_serial_sequence(%s, %s), (SELECT max({}) FROM {}))").format(
                sql.Identifier(key), sql.Identifier(table)
            ),
            (table, key),
        )
    cursor.execute("ANALYZE")


def _copy(cursor: psycopg.Cursor[Any], target: LiteralString, rows: Iterable[Sequence[object]]) -> None:
    with cursor.copy(sql.SQL("COPY {} FROM STDIN").format(sql.SQL(target))) as copy:
        for row in rows:
            copy.write_row(row)


def _count(cursor: psycopg.Cursor[Any], table: str) -> int:
    cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
    row = cursor.fetchone()
    assert row is not None
    count: int = row[0]
    return count


def main(argv: Sequence[str]) -> int:
    """Exit codes: 0 loaded, 2 wrong arguments, 3 no data or no database."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m demo.loader postgresql+psycopg://user:password@host:5432/database\n")
        return 2
    try:
        counts = load(argv[0], sample.load())
    except HeadraceError as error:
        sys.stderr.write(f"error: {error.code}: {error}\n")
        return error.exit_code
    sys.stdout.write("".join(f"{table}: {rows:,} rows\n" for table, rows in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
