"""Sql: fields computed by SQL expressions, and a condition that records have to fulfil, in any source or sink."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from headrace import (
    ColumnTransform,
    ConfigModel,
    DataError,
    Field,
    Finding,
    RecordColumns,
    Schema,
    Type,
    key,
    prefix_key,
)
from headrace import schema as schemas
from headrace_streams.expressions import (
    Columns,
    ColumnType,
    Expression,
    ExpressionError,
    Projection,
    columns_of_schemas,
    compile_expressions,
    parse_expression,
)

_WHERE = "where"
_SELECT = "select."
_SCHEMAS = 16
"""Schemas for which expressions stay compiled."""
_SCHEMA_OF = {
    ColumnType.BOOLEAN: schemas.BOOLEAN.as_optional(),
    ColumnType.INTEGER: schemas.INT64.as_optional(),
    ColumnType.DOUBLE: schemas.FLOAT64.as_optional(),
    ColumnType.STRING: schemas.STRING.as_optional(),
    ColumnType.TIMESTAMP: schemas.TIMESTAMP_SCHEMA.as_optional(),
}


class SqlTransformConfig(ConfigModel):
    """Keys of the transform Sql."""

    where: str | None = key(
        _WHERE, default=None, doc="Condition: records for which it is false or null are dropped.", importance="high"
    )
    select: dict[str, str] = prefix_key(
        _SELECT, doc="`select.<field>`: an SQL expression over the fields of the value.", importance="high"
    )
    keep: bool = key("keep", default=True, doc="Keep the other fields of the value; false: only those of `select`.")

    def problems(self) -> Iterable[Finding]:
        if self.where is None and not self.select:
            yield Finding(
                "config.missing_key", "neither a condition nor a field", _WHERE, "set 'where' or 'select.<field>'"
            )
        for name, text in self._texts():
            try:
                compile_expressions({name: parse_expression(text)}, Columns())
            except ExpressionError as error:
                message = f"Invalid value {text} for configuration {name}: {error.message}"
                yield Finding("config.invalid_value", message, name, error.hint)

    def _texts(self) -> Iterable[tuple[str, str]]:
        if self.where is not None:
            yield _WHERE, self.where
        yield from ((f"{_SELECT}{name}", text) for name, text in self.select.items())


class SqlTransform(ColumnTransform):
    """Computes fields of values by the SQL expressions of stream applications. A null value stays null."""

    config_model = SqlTransformConfig

    def configure(self, properties: Mapping[str, str]) -> None:
        config = SqlTransformConfig.parse(properties)
        self._where = {_WHERE: parse_expression(config.where)} if config.where is not None else {}
        self._select = {name: parse_expression(text) for name, text in config.select.items()}
        self._keep = config.keep
        self._compiled = lru_cache(maxsize=_SCHEMAS)(self._compile)

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        schema = batch.value_schema
        for value in batch.values:
            if value is not None and not isinstance(value, dict):
                raise DataError("Sql needs a map or a struct", code="transform.not_a_map")
        condition, columns, extended = self._compiled(schema)
        rows = [row for row, value in enumerate(batch.values) if value is not None]
        present = [batch.values[row] for row in rows]
        if condition is not None:
            holds = dict(zip(rows, _evaluated(condition, present), strict=True))
            kept = [row for row in range(len(batch)) if holds.get(row, (True,))[0] is True]
            if len(kept) < len(batch):
                batch = _only(batch, kept)
                present = [value for value in batch.values if value is not None]
        if columns is None:
            return [batch]
        made = iter(self._rows(columns, present))
        values = [None if value is None else next(made) for value in batch.values]
        return [replace(batch, values=values, value_schema=extended)]

    def _rows(self, columns: Projection, present: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        made = columns.extend(present, keep=self._keep)
        if made is None:
            _evaluated(columns, present)  # raises the error of the record
            raise RuntimeError("an expression failed in the batch and succeeds alone")
        return made

    def _compile(self, schema: Schema | None) -> tuple[Projection | None, Projection | None, Schema | None]:
        columns = Columns() if schema is None else columns_of_schemas([schema])
        try:
            condition = compile_expressions(self._where, columns) if self._where else None
            projection = compile_expressions(self._select, columns) if self._select else None
        except ExpressionError as error:
            raise DataError(f"Sql: {error.message}", code=error.code, hint=error.hint) from error
        if schema is None or projection is None:
            return condition, projection, schema
        made = {name: _schema_of(schema, name, item, projection.types[name]) for name, item in self._select.items()}
        kept = [field for field in schema.fields if field.name not in made] if self._keep else []
        fields = (*kept, *(Field(name, described) for name, described in made.items()))
        return condition, projection, Schema(Type.STRUCT, optional=schema.optional, name=schema.name, fields=fields)


def _schema_of(schema: Schema, name: str, expression: Expression, kind: ColumnType) -> Schema:
    """Return the schema of a computed field. Raise DataError when the type is not known."""
    described = schema.by_name.get(expression.column or "") or _SCHEMA_OF.get(kind)
    if described is None:
        raise DataError(
            f"Sql: the type of '{name}' ({expression.text}) is not known, and values with a schema need one",
            code="transform.unknown_type",
            hint=f"write CAST({expression.text} AS VARCHAR), or another type",
        )
    return described


def _evaluated(projection: Projection, rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    """Return the values of all expressions for each row. Raise DataError when one refuses a row."""
    values, refused = projection.evaluate(rows)
    if refused:
        first = refused[0]
        text = projection.expressions[first.name].text
        raise DataError(f"Sql: {text}: {first.error.message}", code=first.error.code, hint=first.error.hint)
    return values


def _only(batch: RecordColumns, rows: Sequence[int]) -> RecordColumns:
    return replace(
        batch,
        keys=[batch.keys[row] for row in rows],
        values=[batch.values[row] for row in rows],
        timestamps=[batch.timestamps[row] for row in rows],
        headers=[batch.headers[row] for row in rows],
        places=[batch.places[row] for row in rows],
    )
