"""ExtractNewRecordState: the row of a change event in place of the event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Annotated, Any, ClassVar, Literal

from headrace import LOWER, ColumnTransform, CommaList, DataError, Field, Finding, RecordColumns, Schema, key
from headrace import schema as schemas
from headrace_transforms.debezium.envelopes import JVM, EventField, event_fields, is_envelope, without
from headrace_transforms.keys import ReplaceNullConfig, invalid
from headrace_transforms.sides import basics, with_defaults
from headrace_transforms.simple_header_converter import header_column, header_value

_DELETED = "__deleted"
_OPTIONAL_TEXT = schemas.STRING.as_optional()


@dataclass(frozen=True)
class _Deletes:
    """What becomes of a delete event and of the tombstone behind it."""

    event: Literal["drop", "null", "rewrite", "tombstone"]
    keeps_tombstones: bool = False


_MODES = {
    "drop": _Deletes("drop"),
    "tombstone": _Deletes("null"),
    "rewrite": _Deletes("rewrite"),
    "rewrite-with-tombstone": _Deletes("rewrite", keeps_tombstones=True),
    "delete-to-tombstone": _Deletes("tombstone"),
}
_OLD_MODES: Mapping[str, Literal["drop", "null", "rewrite"]] = {
    "drop": "drop",
    "rewrite": "rewrite",
    "none": "null",
}


class ExtractNewRecordStateConfig(ReplaceNullConfig):
    """Keys of Debezium's ExtractNewRecordState."""

    deletes: Annotated[
        Literal["drop", "tombstone", "rewrite", "rewrite-with-tombstone", "delete-to-tombstone"], LOWER
    ] = key(
        "delete.tombstone.handling.mode",
        default="tombstone",
        doc="What becomes of a delete event and the tombstone behind it: `drop` both; keep one `tombstone`; `rewrite`: "
        "the row before the delete with `__deleted`, which all other rows have, too; `rewrite-with-tombstone`; "
        "`delete-to-tombstone`: a tombstone without schema.",
    )
    drop_tombstones: bool = key(
        "drop.tombstones", default=True, doc="Of Debezium before version 3: drop tombstones.", importance="low"
    )
    delete_handling: Annotated[Literal["drop", "rewrite", "none"], LOWER] | None = key(
        "delete.handling.mode",
        default=None,
        doc="Of Debezium before version 3, where `drop` was the default: `drop` delete events, `rewrite` them, or make "
        "null values of them (`none`).",
        importance="low",
    )
    route_by: str = key(
        "route.by.field", default="", doc="Field of the row whose value becomes the topic.", importance="low"
    )
    fields_prefix: str = key(
        "add.fields.prefix", default="__", doc="Before the names of `add.fields`.", importance="low"
    )
    fields: CommaList = key(
        "add.fields",
        default="",
        doc="Fields of the event to add to the row: `op,source.ts_ms`; `table:t` has a new name.",
        importance="low",
    )
    headers_prefix: str = key(
        "add.headers.prefix", default="__", doc="Before the names of `add.headers`.", importance="low"
    )
    headers: CommaList = key("add.headers", default="", doc="Fields of the event to add as headers.", importance="low")
    drop_header: str | None = key(
        "drop.fields.header.name",
        default=None,
        doc="Header with a list of fields to remove from the row.",
        importance="low",
    )
    drop_from_key: bool = key(
        "drop.fields.from.key", default=False, doc="Remove them from the key, too.", importance="low"
    )
    drop_optional_only: bool = key(
        "drop.fields.keep.schema.compatible", default=True, doc="Remove optional fields only.", importance="low"
    )

    unsupported_keys: ClassVar = {
        "add.source.fields": ("Debezium has removed it", "list the fields in 'add.fields' as source.NAME"),
        "operation.header": ("Debezium has removed it", "write add.headers=op"),
    }

    def problems(self) -> Iterable[Finding]:
        for name, items in (("add.fields", self.fields), ("add.headers", self.headers)):
            try:
                event_fields("", items)
            except ValueError as error:
                yield invalid(name, ",".join(items), str(error), "see Debezium's documentation of the key")
        if self._has_old_keys and "deletes" in self.model_fields_set:
            yield Finding(
                "config.conflict",
                "'drop.tombstones' and 'delete.handling.mode' have no effect here, because "
                "'delete.tombstone.handling.mode' is set",
                "drop.tombstones" if "drop_tombstones" in self.model_fields_set else "delete.handling.mode",
                "remove them",
                severity="warning",
            )

    @property
    def _has_old_keys(self) -> bool:
        return not self.model_fields_set.isdisjoint({"drop_tombstones", "delete_handling"})

    def handling(self) -> _Deletes:
        """Return what becomes of deletes. The keys of older versions count when the new one is not set."""
        if self._has_old_keys and "deletes" not in self.model_fields_set:
            return _Deletes(_OLD_MODES[self.delete_handling or "drop"], keeps_tombstones=not self.drop_tombstones)
        return _MODES[self.deletes]


class ExtractNewRecordState(ColumnTransform):
    """Replaces change events of Debezium by the row after the change. Other records stay as they are."""

    config_model = ExtractNewRecordStateConfig
    aliases = (f"{JVM}ExtractNewRecordState",)

    def configure(self, properties: Mapping[str, str]) -> None:
        config = ExtractNewRecordStateConfig.parse(properties)
        self._deletes, self._replace_null = config.handling(), config.replace_null
        self._fields = event_fields(config.fields_prefix, config.fields)
        self._headers = event_fields(config.headers_prefix, config.headers)
        self._route_by, self._drop_header = config.route_by, config.drop_header
        self._drop_from_key, self._drop_optional_only = config.drop_from_key, config.drop_optional_only

    def apply_columns(self, batch: RecordColumns) -> Sequence[RecordColumns]:
        made: list[RecordColumns] = []
        start = 0
        for kind, run in groupby(map(self._kind_in(batch.value_schema), batch.values)):
            end = start + sum(1 for _ in run)
            part = batch if end - start == len(batch) else batch.between(start, end)
            made += self._made(kind, part)
            start = end
        return made

    def _kind_in(self, schema: Schema | None) -> Any:
        def kind(value: Any) -> str:
            if value is None:
                return "tombstone"
            if not is_envelope(schema, value):
                return "other"
            if value.get("after") is not None:
                return "change"
            return "delete" if value.get("before") is not None else "truncate"

        return kind

    def _made(self, kind: str, batch: RecordColumns) -> Iterable[RecordColumns]:
        if kind == "tombstone":
            return [self._tombstones(batch)] if self._deletes.keeps_tombstones else []
        if kind == "truncate" or (kind == "delete" and self._deletes.event == "drop"):
            return []
        if kind == "other":
            return [batch]
        side = "after" if kind == "change" else "before"
        with_headers = self._with_headers(batch)
        if kind == "change" or self._deletes.event == "rewrite":
            made = self._rows(with_headers, side, deleted=kind == "delete")
        else:
            made = self._nulls(with_headers)
        if self._drop_header:
            made = [part for row in _single(made) for part in self._without_fields(row)]
        if self._route_by:
            return self._routed(made, [event[side] for event in batch.values])
        return made

    def _tombstones(self, batch: RecordColumns) -> RecordColumns:
        added = [
            (
                field.new_name,
                header_column(self.header_converter, batch.topic, field.new_name, schemas.STRING, ["d"])[0],
            )
            for field in self._headers
            if field.name == "op"
        ]
        return replace(batch, headers=[[*own, *added] for own in batch.headers]) if added else batch

    def _with_headers(self, batch: RecordColumns) -> RecordColumns:
        if not self._headers:
            return batch
        present, kinds = self._present(self._headers, batch)
        columns: list[list[tuple[str, bytes | None]]] = []
        for field in present:
            name, values = field.new_name, [field.value_in(event) for event in batch.values]
            written = header_column(self.header_converter, batch.topic, name, kinds[field], values)
            columns.append([(name, value) for value in written])
        return replace(batch, headers=[[*own, *added] for own, *added in zip(batch.headers, *columns, strict=True)])

    def _present(
        self, fields: Sequence[EventField], batch: RecordColumns
    ) -> tuple[list[EventField], dict[EventField, Schema | None]]:
        """Return the fields that the events have, and their schemas."""
        schema = batch.value_schema
        if schema is None:
            present = [field for field in fields if any(field.is_in(event) for event in batch.values)]
            return present, dict.fromkeys(present)
        kinds = {field: described for field in fields if (described := field.schema_in(schema)) is not None}
        return list(kinds), dict(kinds)

    def _rows(self, batch: RecordColumns, side: str, *, deleted: bool) -> list[RecordColumns]:
        schema = batch.value_schema.by_name[side] if batch.value_schema is not None else None
        rows: Sequence[Any] = [event[side] for event in batch.values]
        if not all(isinstance(row, dict) for row in rows):  # such as the documents of MongoDB, which are texts
            return [replace(batch, values=rows, value_schema=schema)]
        added: list[Field] = []
        same: dict[str, Any] = {}
        if self._deletes.event == "rewrite":
            if schema is not None:
                rows = with_defaults(schema, rows, replace_null=self._replace_null)
            same[_DELETED] = "true" if deleted else "false"
            added.append(Field(_DELETED, _OPTIONAL_TEXT))
        present, kinds = self._present(self._fields, batch)
        values = [
            {**row, **same, **{field.new_name: field.value_in(event) for field in present}}
            for row, event in zip(rows, batch.values, strict=True)
        ]
        if schema is None:
            return [replace(batch, values=values)]
        added += [Field(field.new_name, described) for field, described in kinds.items() if described is not None]
        return [replace(batch, values=values, value_schema=basics(schema, fields=(*schema.fields, *added)))]

    def _nulls(self, batch: RecordColumns) -> list[RecordColumns]:
        schema = batch.value_schema
        after = schema.by_name["after"] if schema is not None and self._deletes.event == "null" else None
        return [replace(batch, values=[None] * len(batch), value_schema=after)]

    def _without_fields(self, row: RecordColumns) -> Iterable[RecordColumns]:
        """Remove the fields that a header of the record names."""
        given = [value for name, value in row.headers[0] if name == self._drop_header and value is not None]
        name = self._drop_header or ""
        names = header_value(self.header_converter, row.topic, name, given[0]) if given else None
        if not isinstance(names, list):
            return [row]
        if row.values[0] is not None:
            schema, value = self._without(row.value_schema, row.values[0], names)
            row = replace(row, value_schema=schema, values=[value])
        if self._drop_from_key and isinstance(row.keys[0], dict):
            schema, value = self._without(row.key_schema, row.keys[0], names)
            row = replace(row, key_schema=schema, keys=[value])
        return [row]

    def _without(
        self, schema: Schema | None, value: dict[str, Any], names: Sequence[str]
    ) -> tuple[Schema | None, dict[str, Any]]:
        if schema is None:
            return None, {name: item for name, item in value.items() if name not in names}
        rest = without(schema, names, optional_only=self._drop_optional_only)
        return rest, {field.name: value.get(field.name) for field in rest.fields}

    def _routed(self, made: Sequence[RecordColumns], rows: Sequence[Any]) -> list[RecordColumns]:
        routed = []
        topics = iter([self._topic_of(row) for row in rows])
        for part in _single(made):
            topic = next(topics)
            routed.append(replace(part, topic=topic) if topic else part)
        return routed

    def _topic_of(self, row: Any) -> str:
        topic = row.get(self._route_by, "") if isinstance(row, dict) else ""
        if not isinstance(topic, (str, type(None))):
            raise DataError(
                f"ExtractNewRecordState: '{self._route_by}' is no text, so it cannot be the topic",
                code="transform.bad_route",
            )
        return (topic or "").strip()


def _single(batches: Sequence[RecordColumns]) -> list[RecordColumns]:
    """Return each record as a batch."""
    return [batch.between(row, row + 1) for batch in batches for row in range(len(batch))]
