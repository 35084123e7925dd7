"""The columns of one relation as they are now, and rows of it as the records of a batch, on both paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from headrace import ConfigError, Schema, SourceBatch, TaskError, schema
from headrace_sources.sql.dialects import Database
from headrace_sources.sql.reading.read_spec import Source, describe
from headrace_sources.sql.rows.row_schema import REFUSALS, NullInRequiredError, RowSchema, find_column, row_schema_of
from headrace_sources.sql.rows.server_json import ServerJson
from headrace_sources.sql.rows.types import FLOATS, TEMPORALS, Column, Kind, infer, widen
from headrace_sources.sql.tables.queries import probe

Row = Sequence[Any]


class RowConverter:
    """Used from one thread."""

    def __init__(self, source: Source, database: Database) -> None:
        self._source = source
        self._database = database
        self.columns: tuple[Column, ...] = ()
        """Empty until :meth:`look`."""
        self.signature: object = None
        """Of a result that has these columns; None = not known."""
        self._row_schema: RowSchema | None = None
        self._key_schema: Schema | None = None
        self.planned = False
        """Whether :attr:`fast` is up to date."""
        self.fast: ServerJson | None = None
        """None = there is no fast path."""
        self.verified = True
        """Whether the open result's columns are known to be the table's."""
        self.result_fast: ServerJson | None = None
        """What the open result's rows are made for; None = the plain path."""
        self.names: Sequence[str] = ()
        """Of what the open result's rows hold."""

    def signature_now(self, connection: Connection) -> object:
        """Of a result, were it read now."""
        result = connection.execute(probe(self._source.relation))
        signature = self._database.signature(result.cursor)
        result.close()
        return signature

    def look(self, connection: Connection) -> None:
        """See what the columns are. Raises ConfigError when one that is needed is gone."""
        self.columns = describe(connection, self._database, self._source.relation)
        self.signature = self._row_schema = None
        self.lay_out_plain()
        for name in self._source.keys:
            self.place(name, "pk.fields" if self._source.config.pk_mode == "fields" else "pk.mode")
        self.planned = False

    def plan(self, connection: Connection) -> None:
        """Find the fast path, if there is one."""
        form = self._source.json_form
        self.planned, self.fast = True, None
        if (
            form is None
            or self._source.config.delete_detection == "soft"
            or any(column.kind is Kind.UNKNOWN for column in self.columns)
        ):
            return
        names = [column.name for column in self.columns]
        wanted = [names[find_column(names, name)] for name in (*self._source.cursor.names, *self._source.identity)]
        if self.signature is None:
            self.signature = self.signature_now(connection)
        self.fast = self._database.server_json(
            connection,
            self._row_schema_for([]),
            self.signature,
            self._source.mapping,
            form,
            [*wanted, *self._source.keys],
            self._source.keys,
        )

    def lay_out(self, names: Sequence[str], fast: ServerJson | None) -> None:
        """The values that rows of the open result begin with."""
        self.names, self.result_fast, self.verified = names, fast, fast is None

    def lay_out_plain(self) -> None:
        """As :meth:`lay_out`: the open result is the plain path's."""
        self.lay_out([column.name for column in self.columns], None)

    def place(self, name: str, key: str) -> int:
        """Of a column in the rows; it may be gone since the task started, which raises ConfigError."""
        try:
            return find_column(self.names, name)
        except KeyError as error:
            text = f"{self._source.relation} has no column '{name}' any more"
            hint = f"correct {key}, or give the column its name again"
            raise ConfigError(text, code="sql.missing_column", hint=hint) from error

    def records(self, rows: Sequence[Row]) -> SourceBatch:
        """A batch of them, without a position. Raises DoubtfulRowsError on the fast path, TaskError."""
        values: Sequence[dict[str, Any]]
        records: Sequence[Any]
        if self.result_fast is not None:
            row_schema = self.result_fast.row_schema
            records, values = self.result_fast.read(rows)
        else:
            row_schema, values = self._convert(rows)
            records = values
        batch = SourceBatch(self._source.topic, records, row_schema.schema)
        if len(self._source.keys) == 1:
            [name] = self._source.keys
            batch.keys = [value[name] for value in values]
        elif self._source.keys:
            batch.keys = [{name: value[name] for name in self._source.keys} for value in values]
        batch.key_schema = self._key_schema
        self._account(rows, batch)
        return batch

    def _account(self, rows: Sequence[Row], batch: SourceBatch) -> None:
        """Rows that are marked as deleted become tombstones; the ledger hears of keys before anybody else does."""
        if self._source.config.delete_detection == "soft":
            mark = self.place(self._source.config.soft_column, "delete.soft.column")
            batch.values = [
                None if deleted(row[mark]) else value for row, value in zip(rows, batch.values, strict=True)
            ]
        if self._source.ledger is not None:
            places = [find_column(self.names, name) for name in self._source.keys]
            self._source.ledger.add([tuple(row[place] for place in places) for row in rows])

    def _convert(self, rows: Sequence[Row]) -> tuple[RowSchema, list[dict[str, Any]]]:
        row_schema = self._row_schema_for(rows)
        try:
            return row_schema, row_schema.convert(rows)
        except NullInRequiredError:
            # NOT NULL was dropped since, or never held (SQLite, views): the column is optional from now on.
            nulls = {place for row in rows for place, value in enumerate(row) if value is None}
            self.columns = tuple(
                replace(column, nullable=True) if place in nulls else column
                for place, column in enumerate(self.columns)
            )
            self._row_schema = None
            self.planned = False
            return self._convert(rows)
        except REFUSALS as error:
            place, column, reason = row_schema.culprit(rows)
            raise self.bad_value(column, rows[place], reason) from error

    def _row_schema_for(self, rows: Sequence[Row]) -> RowSchema:
        known = self._row_schema
        if known is None or any(column.kind is Kind.UNKNOWN for column in self.columns):
            columns = []
            for place, column in enumerate(self.columns):
                if column.kind is Kind.UNKNOWN:
                    before = known.columns[place] if known and known.columns[place].kind is not Kind.UNKNOWN else None
                    found = infer(column.name, [row[place] for row in rows])
                    column = widen(before, found) if found else before or column  # noqa: PLW2901
                columns.append(column)
            if known is None or known.columns != tuple(columns):
                table = self._source.relation.table
                mapping = self._source.mapping
                known = row_schema_of(columns, table.name if table else None, mapping, self._database.normaliser)
                self._key_schema = _key_schema(known.schema, self._source.keys)
                self._row_schema = known
        return known

    def column(self, name: str) -> Column:
        """As it is now."""
        return self.columns[find_column([column.name for column in self.columns], name)]

    def bad_value(self, column: Column, row: Row, reason: str) -> TaskError:
        """Why a row cannot be published, and what to do."""
        identity = ", ".join(f"{name}={row[find_column(self.names, name)]}" for name in self._source.identity)
        return TaskError(
            f"{self._source.relation}: column '{column.name}' of the row {identity or 'read last'} cannot be "
            f"published: {reason}",
            code="sql.bad_value",
            hint="correct the row; or "
            + ("set temporal.out.of.range to null or text; or " if column.kind in TEMPORALS else "")
            + ("set float.not.finite to null or text; or " if column.kind in FLOATS else "")
            + "leave it out or change the column by a query: SELECT …, "
            f"CAST({column.name} AS {self._database.text_type}) AS {column.name} FROM …",
        )


def _key_schema(value: Schema, keys: tuple[str, ...]) -> Schema | None:
    if not keys:
        return None
    if len(keys) == 1:
        return value.by_name[keys[0]]
    return schema.struct({name: value.by_name[name] for name in keys})


def deleted(value: Any) -> bool:
    """Whether a value of ``delete.soft.column`` marks its row as deleted."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "f", "false", "n", "no")
    if isinstance(value, bytes):  # MySQL's BIT
        return any(value)
    return value is not None and value is not False and value != 0
