"""EventRouter: events that a service wrote to an outbox table, each to the topic that its row names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from headrace import LOWER, CommaList, ConfigModel, DataError, Field, Finding, Record, Schema, Transform, Type, key
from headrace_transforms.debezium.envelopes import JVM, is_envelope
from headrace_transforms.debezium.json_payloads import parse_payload
from headrace_transforms.keys import invalid
from headrace_transforms.routers import RegexRouter, RegexRouterConfig
from headrace_transforms.simple_header_converter import header_column

_PER_MILLISECOND = {
    "io.debezium.time.Timestamp": 1,
    "io.debezium.time.MicroTimestamp": 1_000,
    "io.debezium.time.NanoTimestamp": 1_000_000,
}
_NO_TRACING = "headrace writes no spans"


class Placement(NamedTuple):
    """Where a further column of the row goes."""

    column: str
    is_header: bool
    alias: str


def parse_placements(items: Sequence[str]) -> list[Placement]:
    """Return what ``type:header,version:envelope:v`` says. Raise ValueError."""
    return [_placement(item) for item in items]


def _placement(item: str) -> Placement:
    column, *rest = (part.strip() for part in item.split(":"))
    if not column or len(rest) not in (1, 2) or not all(rest):
        raise ValueError(f"'{item}' is not column:placement or column:placement:alias")
    if rest[0].lower() == "partition":
        raise ValueError("the placement 'partition' is not supported: the producer chooses partitions by the key")
    if rest[0].lower() not in ("header", "envelope"):
        raise ValueError(f"'{rest[0]}' is not a placement")
    return Placement(column, rest[0].lower() == "header", rest[1] if len(rest) == 2 else column)


class EventRouterConfig(ConfigModel):
    """Keys of Debezium's outbox event router."""

    event_id: str = key("table.field.event.id", default="id", doc="Column of the event's id, which becomes a header.")
    event_key: str = key("table.field.event.key", default="aggregateid", doc="Column of the key.")
    event_type: str = key("table.field.event.type", default="type", doc="Column of the type.", importance="low")
    payload: str = key("table.field.event.payload", default="payload", doc="Column of the value.")
    timestamp: str | None = key(
        "table.field.event.timestamp",
        default=None,
        doc="Column of the timestamp, of a type of Debezium; without it the time of the change event.",
    )
    placements: CommaList = key(
        "table.fields.additional.placement",
        default="",
        doc="Further columns: `column:header`, `column:envelope`, each with `:alias`.",
    )
    missing: Annotated[Literal["error", "ignore"], LOWER] = key(
        "table.field.additional.missing", default="error", doc="What happens when such a column does not exist."
    )
    version: str | None = key(
        "table.field.event.schema.version", default=None, doc="Column of the version of the value's schema."
    )
    invalid_operation: Annotated[Literal["warn", "error", "fatal"], LOWER] = key(
        "table.op.invalid.behavior",
        default="warn",
        doc="What happens to updates of rows: `warn` and `error` drop them, `fatal` refuses them.",
    )
    expand: bool = key("table.expand.json.payload", default=False, doc="Parse the payload as JSON.")
    nulls: Annotated[Literal["ignore", "optional_bytes"], LOWER] = key(
        "table.json.payload.null.behavior", default="ignore", doc="Nulls in parsed payloads: left out, or kept."
    )
    route_by: str = key("route.by.field", default="aggregatetype", doc="Column that decides the topic.")
    regex: str = key("route.topic.regex", default="(?<routedByValue>.*)", doc="Expression (RE2) for this column.")
    replacement: str = key(
        "route.topic.replacement",
        default="outbox.event.${routedByValue}",
        doc="The topic, with groups of the expression.",
    )
    tombstones: bool = key(
        "route.tombstone.on.empty.payload", default=False, doc="An empty payload becomes a null value."
    )

    ignored_keys: ClassVar = {
        "tracing.span.context.field": _NO_TRACING,
        "tracing.operation.name": _NO_TRACING,
        "tracing.with.context.field.only": _NO_TRACING,
    }

    def problems(self) -> Iterable[Finding]:
        try:
            parse_placements(self.placements)
        except ValueError as error:
            hint = "use 'header' or 'envelope'"
            yield invalid("table.fields.additional.placement", ",".join(self.placements), str(error), hint)
        routing = RegexRouterConfig.validate_properties({"regex": self.regex, "replacement": self.replacement})[1]
        for finding in routing:
            name = f"route.topic.{finding.key}"
            text = finding.message.replace(f"configuration {finding.key}", f"configuration {name}")
            yield Finding(finding.code, text, name, finding.hint)


class EventRouter(Transform):
    """Makes records of inserted rows of an outbox table. Deletes and tombstones are dropped, other records stay."""

    config_model = EventRouterConfig
    aliases = (f"{JVM}outbox.EventRouter",)

    def configure(self, properties: Mapping[str, str]) -> None:
        self._config = EventRouterConfig.parse(properties)
        self._placements = parse_placements(self._config.placements)
        self._in_envelope = any(not item.is_header for item in self._placements)
        self._router = RegexRouter()
        self._router.configure({"regex": self._config.regex, "replacement": self._config.replacement})

    def apply(self, record: Record) -> Record | None:
        event, schema = record.value, record.value_schema
        if event is None:
            return None
        if not is_envelope(schema, event):
            return record
        if event.get("op") == "d":
            return None
        if event.get("op") == "u":
            if self._config.invalid_operation == "fatal":
                raise DataError("EventRouter: a row of the outbox table was updated", code="transform.updated_event")
            return None
        row = event.get("after")
        if not isinstance(row, dict):
            raise DataError("EventRouter: the change event has no row ('after')", code="transform.no_field")
        described = schema.by_name["after"] if schema is not None else None
        return self._router.apply(self._event(record, row, described))

    def _event(self, record: Record, row: Mapping[str, Any], described: Schema | None) -> Record:
        config = self._config
        payload, payload_schema = self._column(row, described, config.payload)
        event_id, id_schema = self._column(row, described, config.event_id)
        event_key, key_schema = self._column(row, described, config.event_key)
        topic, _ = self._column(row, described, config.route_by)
        headers = [*record.headers, self._header(record, "id", id_schema, event_id)]
        is_empty = payload is None or (isinstance(payload, str) and not payload.strip())
        if config.expand and isinstance(payload, str):
            payload, payload_schema = parse_payload(payload, payload_schema, nulls=config.nulls == "optional_bytes")
        envelope, fields = {"payload": payload}, [Field("payload", payload_schema)] if payload_schema else []
        for item in self._placements:
            if config.missing == "ignore" and not self._has(row, described, item.column):
                continue
            value, kind = self._column(row, described, item.column)
            if item.is_header:
                headers.append(self._header(record, item.alias, kind, value))
            else:
                envelope[item.alias] = value
                fields += [Field(item.alias, kind)] if kind else []
        value, value_schema = payload, payload_schema
        if self._in_envelope:
            value, value_schema = envelope, self._envelope_schema(row, described, fields, topic)
        if is_empty and config.tombstones:
            value, value_schema = None, None
        return Record(
            str(topic), value, value_schema, event_key, key_schema, self._timestamp(record, row, described), headers
        )

    def _header(self, record: Record, name: str, schema: Schema | None, value: Any) -> tuple[str, bytes | None]:
        return name, header_column(self.header_converter, record.topic, name, schema, [value])[0]

    def _envelope_schema(
        self, row: Mapping[str, Any], described: Schema | None, fields: Sequence[Field], topic: Any
    ) -> Schema | None:
        if described is None:
            return None
        version = self._column(row, described, self._config.version)[0] if self._config.version else None
        prefix, dot, last = (described.name or "").rpartition(".")
        name = f"{prefix}{dot}{topic}.{last}" if last else str(topic)
        return Schema(Type.STRUCT, name=name, version=version, fields=tuple(fields))

    def _timestamp(self, record: Record, row: Mapping[str, Any], described: Schema | None) -> int | None:
        changed: int | None = record.value.get("ts_ms")
        if self._config.timestamp is None:
            return changed
        moment, kind = self._column(row, described, self._config.timestamp)
        if moment is None:
            return changed
        divisor = _PER_MILLISECOND.get(kind.name or "" if kind else "io.debezium.time.Timestamp")
        if divisor is None or not isinstance(moment, int):
            raise DataError(
                f"EventRouter: '{self._config.timestamp}' has none of Debezium's types of timestamps",
                code="transform.bad_timestamp",
                hint="io.debezium.time.Timestamp, MicroTimestamp and NanoTimestamp are supported",
            )
        return moment // divisor

    def _column(self, row: Mapping[str, Any], described: Schema | None, name: str) -> tuple[Any, Schema | None]:
        if not self._has(row, described, name):
            raise DataError(f"EventRouter: the row has no column '{name}'", code="transform.no_field")
        return row.get(name), described.by_name[name] if described is not None else None

    @staticmethod
    def _has(row: Mapping[str, Any], described: Schema | None, name: str) -> bool:
        return name in (row if described is None else described.by_name)
