"""How PostgreSQL writes JSON, where that is byte for byte what Connect's JSON converter writes.

``row_to_json`` leaves out spaces, keeps the order of columns, escapes texts as the converter does, and takes a type's
own text form for everything it does not know; what it writes otherwise (timestamps, binary data) is written for it.
Floats are not among it: PostgreSQL writes ``1e+20`` and ``1``, the converter ``1e20`` and ``1.0``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC

from headrace import JsonForm, Schema, Type, schema
from headrace_sources.sql.rows.server_json import Piece, ServerColumn
from headrace_sources.sql.rows.types import TIMESTAMPS, Column, Kind, TypeMapping

_EXACT_EXTRACT = 140000
"""Version since which EXTRACT is exact; it was a double before."""

_PLAIN_DIGITS = 6
"""Digits behind the point up to which a Decimal is never written with an exponent."""

# Types whose text form row_to_json takes by itself; any other one's is asked for by concat(), which takes it, too.
# (A cast to text is something else for some: inet gets a netmask by it, char(n) loses its blanks.)
_BARE = frozenset(
    {
        25, 1043, 1042,  # text, varchar, char
        2950, 869, 650, 829, 774,  # uuid, inet, cidr, macaddr, macaddr8
        1186, 1266, 1560, 1562, 790,  # interval, time with time zone, bit, varbit, money
    }
)  # fmt: skip
_AS_TEXT = "CASE WHEN {c} IS DISTINCT FROM NULL THEN concat({c}) END"
_MONTHS = '\'YYYY-MM-DD"T"HH24:MI:SS.US'
_YEARS = "{{c}} NOT BETWEEN {kind} '0001-01-01' AND {kind} '9999-12-31{end}'"


def server_columns(
    columns: Sequence[Column],
    oids: Sequence[int],
    mapping: TypeMapping,
    form: JsonForm,
    version: int,
) -> list[ServerColumn | None]:
    """How each column is written; None = not here. The session's time zone is UTC."""
    found = []
    for column, oid in zip(columns, oids, strict=True):
        written = _written(column, oid, mapping, form, version)
        if written is not None and not column.nullable:
            # NOT NULL may have been dropped since: the schema then has to change first.
            doubt = f"{written.doubt} OR {{c}} IS NULL" if written.doubt else "{c} IS NULL"
            written = written._replace(doubt=doubt)
        found.append(written)
    return found


def _written(column: Column, oid: int, mapping: TypeMapping, form: JsonForm, version: int) -> ServerColumn | None:
    target = mapping.schema_of(column)
    exact = version >= _EXACT_EXTRACT
    if mapping.as_text and column.kind in TIMESTAMPS:
        return ServerColumn(_AS_TEXT)
    match column.kind:
        case Kind.BOOLEAN | Kind.INT16 | Kind.INT32:
            return ServerColumn()
        case Kind.INT64:
            return ServerColumn("{c}::bigint")  # oid is written as text otherwise
        case Kind.TEXT if mapping.conversion(column).code == "{v}":
            return ServerColumn() if oid in _BARE else ServerColumn(_AS_TEXT)
        case Kind.BYTES:
            return ServerColumn("translate(encode({c}, 'base64'), E'\\n', '')")
        case Kind.DECIMAL:
            return _decimal(column, target, form)
        case Kind.DATE if target.name == schema.DATE:
            return ServerColumn("{c} - date '1970-01-01'", _YEARS.format(kind="date", end=""))
        case Kind.TIME if target.name == schema.TIME and exact:
            return ServerColumn("floor(extract(epoch FROM {c}) * 1000)::int", "{c} = time '24:00'")
        case Kind.MOMENT_TEXT | Kind.LOCAL_TEXT if mapping.conversion(column).code == "{v}":
            return ServerColumn(_AS_TEXT)
        case Kind.MOMENT | Kind.MOMENT_TEXT:
            return _timestamp(target, mapping, "timestamptz", "+00", exact)
        case Kind.LOCAL | Kind.LOCAL_TEXT if mapping.zone is UTC:
            return _timestamp(target, mapping, "timestamp", "", exact)
    return None


def _decimal(column: Column, target: Schema, form: JsonForm) -> ServerColumn | None:
    if target.type is Type.STRING:
        return ServerColumn("{c}::text")
    if target.name == schema.DECIMAL:
        plain = form.decimals_as_numbers and column.scale is not None and 0 <= column.scale <= _PLAIN_DIGITS
    else:
        plain = target.type in schema.INTEGERS and column.scale == 0
    return ServerColumn("{c}", "{c} = 'NaN'") if plain else None


def _timestamp(target: Schema, mapping: TypeMapping, kind: str, zone: str, exact: bool) -> ServerColumn | None:
    doubt = _YEARS.format(kind=kind, end=f" 23:59:59.999999{zone}")
    if kind == "timestamptz":
        doubt = doubt.replace("'0001-01-01'", "'0001-01-01 00:00:00+00'")
    if target.name == schema.TIMESTAMP:
        return ServerColumn("floor(extract(epoch FROM {c}) * 1000)::bigint", doubt) if exact else None
    unit, _, form = mapping.granularity.partition("_")
    if form == "iso_datetime_string" and mapping.zone is UTC:
        zeros = '"000"\'' if unit == "nanos" else "'"
        return ServerColumn(f"to_char({{c}}, {_MONTHS}{zeros})", doubt)
    if unit == "micros" and exact:
        number = "(extract(epoch FROM {c}) * 1000000)::bigint"
        return ServerColumn(number if form == "long" else f"({number})::text", doubt)
    return None


def wrap(names: Sequence[str], pieces: Sequence[Piece], sql: str, quote: Callable[[str], str]) -> str:
    """The statement that gives the values of ``names`` and the pieces of the rows of ``sql``; ``quote`` quotes a name.

    The planner pulls the pieces' subqueries up, and keeps the order of a sorted subquery when nothing asks for another.
    """
    chosen = [f"headrace_rows.{quote(name)}" for name in names]
    sources = []
    for number, piece in enumerate(pieces):
        columns = [(quote(name), f"headrace_rows.{quote(name)}", item) for name, item in piece.columns]
        members = ", ".join(f"{item.expression.format(c=column)} AS {name}" for name, column, item in columns)
        doubts = " OR ".join(item.doubt.format(c=column) for _, column, item in columns if item.doubt)
        text = f"row_to_json(headrace_json{number})::text"
        chosen.append(f"CASE WHEN {doubts} THEN NULL ELSE {text} END" if doubts else text)
        sources.append(f", LATERAL (SELECT {members}) AS headrace_json{number}")
    return f"SELECT {', '.join(chosen)} FROM (\n{sql}\n) AS headrace_rows{''.join(sources)}"
