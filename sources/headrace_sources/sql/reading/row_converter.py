"""The current columns of one relation, and the conversion of its rows to records, on the fast and the plain path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from headrace import ConfigError, Schema, SourceBatch, TaskError, schema
from headrace_sources.sql.cursor.position import Row
from headrace_sources.sql.dialects import Dialect
from headrace_sources.sql.reading.read_spec import ReadSpec, describe
from headrace_sources.sql.rows.row_schema import REFUSALS, NullInRequiredError, RowSchema, find_column, row_schema_of
from headrace_sources.sql.rows.server_json import ServerJson
from headrace_sources.sql.rows.types import FLOATS, TEMPORALS, Column, Kind, infer, widen
from headrace_sources.sql.tables.queries import probe


class RowConverter:
    """Used from one thread."""

    def __init__(self, spec: ReadSpec, dialect: Dialect) -> None:
        self._spec = spec
        self._dialect = dialect
        self.columns: tuple[Column, ...] = ()
        """Empty until :meth:`describe`."""
        self.signature: object = None
        """Of a result that has these columns; None = unknown."""
        self._row_schema: RowSchema | None = None
        self._key_schema: Schema | None = None
        self.planned = False
        """Whether :attr:`fast` is up to date."""
        self.fast: ServerJson | None = None
        """None = there is no fast path."""
        self.verified = True
        """Whether the open result's columns are known to be the table's."""
        self.result_fast: ServerJson | None = None
        """The fast path that the open result uses; None = the plain path."""
        self.names: Sequence[str] = ()
        """Of the values in the open result's rows."""

    def signature_now(self, connection: Connection) -> object:
        """Return the signature of a result that is read now."""
        result = connection.execute(probe(self._spec.relation))
        signature = self._dialect.signature(result.cursor)
        result.close()
        return signature

    def describe(self, connection: Connection) -> None:
        """Ask the database for the columns. Raise ConfigError when one that is needed is missing."""
        self.columns = describe(connection, self._dialect, self._spec.relation)
        self.signature = self._row_schema = None
        self.use_columns([column.name for column in self.columns], None)
        for name in self._spec.keys:
            self.index(name, "pk.fields" if self._spec.config.pk_mode == "fields" else "pk.mode")
        self.planned = False

    def plan(self, connection: Connection) -> None:
        """Find the fast path, if there is one."""
        form = self._spec.json_form
        self.planned, self.fast = True, None
        if (
            form is None
            or self._spec.config.delete_detection == "soft"
            or any(column.kind is Kind.UNKNOWN for column in self.columns)
        ):
            return
        names = [column.name for column in self.columns]
        wanted = [names[find_column(names, name)] for name in (*self._spec.cursor.names, *self._spec.identity)]
        if self.signature is None:
            self.signature = self.signature_now(connection)
        self.fast = self._dialect.server_json(
            connection,
            self._row_schema_for([]),
            self.signature,
            self._spec.mapping,
            form,
            [*wanted, *self._spec.keys],
            self._spec.keys,
        )

    def use_columns(self, names: Sequence[str], fast: ServerJson | None) -> None:
        """Expect rows of the open result to begin with the values of these columns."""
        self.names, self.result_fast, self.verified = names, fast, fast is None

    def index(self, name: str, key: str) -> int:
        """Return where in a row a column is. Raise ConfigError: it may have been dropped since the task started."""
        try:
            return find_column(self.names, name)
        except KeyError as error:
            text = f"{self._spec.relation} no longer has column '{name}'"
            hint = f"correct {key}, or restore the column's name"
            raise ConfigError(text, code="sql.missing_column", hint=hint) from error

    def records(self, rows: Sequence[Row]) -> SourceBatch:
        """Return a batch of ``rows`` without a position. Raise TaskError; on the fast path DoubtfulRowsError."""
        values: Sequence[dict[str, Any]]
        records: Sequence[Any]
        if self.result_fast is not None:
            row_schema = self.result_fast.row_schema
            records, values = self.result_fast.read(rows)
        else:
            row_schema, values = self._convert(rows)
            records = values
        spec = self._spec
        batch = SourceBatch(spec.topic, records, row_schema.schema)
        if len(spec.keys) == 1:
            [name] = spec.keys
            batch.keys = [value[name] for value in values]
        elif spec.keys:
            batch.keys = [{name: value[name] for name in spec.keys} for value in values]
        batch.key_schema = self._key_schema
        batch.identity = spec.identity
        self._apply_deletes(rows, batch)
        return batch

    def _apply_deletes(self, rows: Sequence[Row], batch: SourceBatch) -> None:
        """Make tombstones of rows that are marked as deleted, and record keys in the ledger before they are sent."""
        if self._spec.config.delete_detection == "soft":
            mark = self.index(self._spec.config.soft_column, "delete.soft.column")
            batch.values = [
                None if deleted(row[mark]) else value for row, value in zip(rows, batch.values, strict=True)
            ]
        if self._spec.ledger is not None:
            indexes = [find_column(self.names, name) for name in self._spec.keys]
            self._spec.ledger.add([tuple(row[index] for index in indexes) for row in rows])

    def _convert(self, rows: Sequence[Row]) -> tuple[RowSchema, list[dict[str, Any]]]:
        row_schema = self._row_schema_for(rows)
        try:
            return row_schema, row_schema.convert(rows)
        except NullInRequiredError:
            # NOT NULL was dropped, or never enforced (SQLite, views): the column is optional from now on.
            nulls = {index for row in rows for index, value in enumerate(row) if value is None}
            self.columns = tuple(
                replace(column, nullable=True) if index in nulls else column
                for index, column in enumerate(self.columns)
            )
            self._row_schema = None
            self.planned = False
            return self._convert(rows)
        except REFUSALS as error:
            number, column, reason = row_schema.find_refused_value(rows)
            raise self.bad_value(column, rows[number], reason) from error

    def _row_schema_for(self, rows: Sequence[Row]) -> RowSchema:
        known = self._row_schema
        if known is None or any(column.kind is Kind.UNKNOWN for column in self.columns):
            columns = []
            for index, column in enumerate(self.columns):
                if column.kind is Kind.UNKNOWN:
                    before = known.columns[index] if known and known.columns[index].kind is not Kind.UNKNOWN else None
                    found = infer(column.name, [row[index] for row in rows])
                    column = widen(before, found) if found else before or column  # noqa: PLW2901
                columns.append(column)
            if known is None or known.columns != tuple(columns):
                table = self._spec.relation.table
                mapping = self._spec.mapping
                known = row_schema_of(columns, table.name if table else None, mapping, self._dialect.normaliser)
                self._key_schema = _key_schema(known.schema, self._spec.keys)
                self._row_schema = known
        return known

    def column(self, name: str) -> Column:
        """Return a column as it is now."""
        return self.columns[find_column([column.name for column in self.columns], name)]

    def bad_value(self, column: Column, row: Row, reason: str) -> TaskError:
        """Return the error of a row that cannot be converted, with what to do."""
        identity = ", ".join(f"{name}={row[find_column(self.names, name)]}" for name in self._spec.identity)
        if column.name in self._spec.cursor.names:  # reading continues from its values: they cannot be replaced
            hint = (
                f"correct the row, or leave such rows out by a query: SELECT * FROM {self._spec.relation} WHERE "
                f"{column.name} …"
            )
        else:
            hint = (
                "correct the row; or "
                + ("set temporal.out.of.range to null or text; or " if column.kind in TEMPORALS else "")
                + ("set float.not.finite to null or text; or " if column.kind in FLOATS else "")
                + "leave it out or change the column by a query: SELECT …, "
                f"CAST({column.name} AS {self._dialect.text_type}) AS {column.name} FROM …"
            )
        return TaskError(
            f"{self._spec.relation}: column '{column.name}' of the row {identity or 'read last'} cannot be "
            f"published: {reason}",
            code="sql.bad_value",
            hint=hint,
        )


def _key_schema(value: Schema, keys: tuple[str, ...]) -> Schema | None:
    if not keys:
        return None
    if len(keys) == 1:
        return value.by_name[keys[0]]
    return schema.struct({name: value.by_name[name] for name in keys})


def deleted(value: Any) -> bool:
    """Return whether a value of ``delete.soft.column`` marks its row as deleted."""
    if isinstance(value, str):
        return value.strip().lower() not in ("", "0", "f", "false", "n", "no")
    if isinstance(value, bytes):  # MySQL's BIT
        return any(value)
    return value is not None and value is not False and value != 0
