"""The fast path: rows that the database serializes to JSON, with the same bytes as the plain path in less time.

The database serializes the columns whose JSON equals the converter's. Other columns arrive as values and are
serialized here, and the row's JSON is joined from both. Where the database's JSON would differ (``NaN``, a date out of
Python's range), its part is NULL, and such rows are read again by the plain path, which converts or refuses them. See
docs/decisions/0030-rows-as-json.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, TextClause

from headrace import DataError, JsonForm, JsonValues, Schema, schema
from headrace_sources.sql.rows.row_schema import REFUSALS, NullInRequiredError, RowSchema, compile_rows

Rows = Sequence[Sequence[Any]]


Query = Select[Any] | TextClause


class Stream(NamedTuple):
    """A result that is being read: the driver's cursor (for its description), and the functions that continue it."""

    cursor: Any
    fetchmany: Callable[[int], Sequence[Sequence[Any]]]
    close: Callable[[], None]
    prefetch_seconds: Callable[[], float] = lambda: 0.0
    """Returns the seconds for which the last rows were fetched ahead, before they were requested."""


class ServerColumn(NamedTuple):
    """How the database serializes a column: SQL with ``{c}`` for it, and the condition under which the JSON differs."""

    expression: str = "{c}"
    doubt: str = ""


class Piece(NamedTuple):
    """Consecutive columns that the database serializes as one JSON object."""

    columns: tuple[tuple[str, ServerColumn], ...]


class DoubtfulRowsError(Exception):
    """At least one of the rows has JSON that differs from the plain path's."""


@dataclass(frozen=True)
class ServerJson:
    """The fast path of one relation with its present columns. A row holds the values of ``names``, then the pieces."""

    names: tuple[str, ...]
    row_schema: RowSchema
    stream: Callable[[Connection, Query], Stream]
    """Runs the plain path's statement so that its rows arrive in the form above, in the same order."""
    _form: JsonForm
    _pick: Callable[[Rows], list[dict[str, Any]]]
    _client: Mapping[str, Schema]  # columns that are written here
    _template: bytes
    _places: tuple[int | str, ...]  # what the template takes: the place of a piece, or the name of a client's column

    def read(self, rows: Rows) -> tuple[JsonValues, list[dict[str, Any]]]:
        """Return the records, and the values of their key columns. Raise DoubtfulRowsError."""
        try:
            picked = self._pick(rows)
            texts = self._texts(rows, picked)
        except (NullInRequiredError, DataError, *REFUSALS) as error:
            raise DoubtfulRowsError from error
        return JsonValues(texts, self.row_schema.schema, self._form), picked

    def _texts(self, rows: Rows, picked: Sequence[Mapping[str, Any]]) -> list[bytes]:
        first = len(self.names)
        if not self._client:
            return [row[first].encode() for row in rows]
        columns: list[Sequence[bytes]] = []
        for place in self._places:
            if isinstance(place, int):
                # Without the braces.
                columns.append([row[place][1:-1].encode() for row in rows])
            else:
                written = self._form.write(self._client[place], [values[place] for values in picked])
                columns.append([b"null" if text is None else text for text in written])
        template = self._template
        return [template % values for values in zip(*columns, strict=True)]


def plan(
    row_schema: RowSchema,
    written: Sequence[ServerColumn | None],
    wanted: Sequence[str],
    keys: Sequence[str],
    form: JsonForm,
    stream: Callable[[Connection, Query, Sequence[str], Sequence[Piece]], Stream],
) -> ServerJson | None:
    """Return the fast path for ``row_schema``; None where it would not be faster.

    ``written``: how the database writes each column, None = it does not. ``wanted``: columns of which the reader wants
    the values, ``keys`` those among them that records' keys are made of. ``stream`` runs the
    plain path's statement so that it gives the values of these names, then the pieces.
    """
    if sum(item is not None for item in written) * 2 <= len(written):
        return None
    client = [column.name for column, item in zip(row_schema.columns, written, strict=True) if item is None]
    names = tuple(column.name for column in row_schema.columns if column.name in (*wanted, *client))
    pieces: list[Piece] = []
    places: list[int | str] = []
    parts: list[bytes] = []
    run: list[tuple[str, ServerColumn]]
    for ours, group in groupby(zip(row_schema.columns, written, strict=True), lambda pair: pair[1] is None):
        if not ours:
            run = [(column.name, item) for column, item in group if item is not None]
            places.append(len(names) + len(pieces))
            pieces.append(Piece(tuple(run)))
            parts.append(b"%b")
            continue
        for column, _ in group:
            [name] = form.write(schema.STRING, [column.name])
            assert name is not None
            places.append(column.name)
            parts.append(name.replace(b"%", b"%%") + b":%b")
    return ServerJson(
        names,
        row_schema,
        lambda connection, query: stream(connection, query, names, pieces),
        form,
        compile_rows(
            [row_schema.columns[row_schema.index(name)] for name in names],
            [row_schema.conversions[row_schema.index(name)] for name in names],
            picked={*keys, *client},
            more=len(pieces),
        ),
        {name: row_schema.schema.by_name[name] for name in client},
        b"{" + b",".join(parts) + b"}",
        tuple(places),
    )
