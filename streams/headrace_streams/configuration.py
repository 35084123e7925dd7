"""The configuration keys of stream applications, as flat properties: ``steps.enriched.add.epi``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Generic, Literal, TypeVar

from headrace import LOWER, CommaList, ConfigError, ConfigModel, Duration, Finding, LocalUse, key, prefix_key

M = TypeVar("M", bound=ConfigModel)


class ApplicationKeys(ConfigModel):
    """The sections of an application's file."""

    inputs: dict[str, str] = prefix_key(
        "inputs.",
        doc="The streams to read, by name: `inputs.views: impressions` (a topic), or with options "
        "`inputs.views.topic`, `.time`, `.key`, `.columns.<name>`.",
        importance="high",
        group="Application",
    )
    tables: dict[str, str] = prefix_key(
        "tables.",
        doc="Tables, by name: `tables.offers: offers` (a topic), or `tables.offers.topic`, `.key`, `.scope`, `.time`, "
        "`.columns.<name>`.",
        importance="high",
        group="Application",
    )
    steps: dict[str, str] = prefix_key(
        "steps.", doc="The steps, by name and in order; see docs/streams.md.", importance="high", group="Application"
    )
    experiments: dict[str, str] = prefix_key(
        "experiments.",
        doc="The experiments of `pick` and `learn`, by name; see docs/exploration.md.",
        importance="high",
        group="Application",
    )
    outputs: dict[str, str] = prefix_key(
        "outputs.",
        doc="The topics to write: `outputs.<topic>: <stream>`, or `outputs.<name>.topic` and `.from`.",
        importance="high",
        group="Application",
    )

    @classmethod
    def local_uses(cls, properties: Mapping[str, str]) -> Iterable[LocalUse]:
        """Yield the functions that steps call: importing a module executes it."""
        for name, text in properties.items():
            section, _, step = name.partition(".")
            if section == "steps" and step.strip().partition(".")[2] == "call":
                yield LocalUse(name, "function", text.strip())
            if section == "experiments" and re.fullmatch(r"[^.]+\.versions\.[^.]+\.call", step.strip()):
                yield LocalUse(name, "function", text.strip())


class InputKeys(ConfigModel):
    """Keys of one input."""

    short_form: ClassVar[str] = "topic"

    topic: str | None = key("topic", default=None, doc="The topic; by default the input's name.")
    time: str | None = key("time", default=None, doc="Expression of the event time; by default the record's timestamp.")
    key_column: str | None = key("key", default=None, doc="The column that has the same value as the record's key.")
    columns: dict[str, str] = prefix_key("columns.", doc="Types of the columns. Other columns do not exist then.")


class TableKeys(ConfigModel):
    """Keys of one table."""

    short_form: ClassVar[str] = "topic"

    topic: str | None = key("topic", default=None, doc="The topic; by default the table's name.")
    key_column: str | None = key("key", default=None, doc="The column that is the table's key; by default the key is.")
    scope: Annotated[Literal["global", "partitioned"], LOWER] = key(
        "scope",
        default="global",
        doc="`global`: every task has all rows. `partitioned`: a task has those of its partitions, and changes apply "
        "in the order of event time.",
    )
    time: str | None = key(
        "time", default=None, doc="Expression of the event time of changes; by default the record's timestamp."
    )
    columns: dict[str, str] = prefix_key("columns.", doc="Types of the columns. Other columns do not exist then.")


class StepKeys(ConfigModel):
    """Keys of one step: ``from`` and one operation."""

    source: str | None = key("from", default=None, doc="The stream to read; by default the step before.")
    sql: str | None = key("sql", default=None, doc="One SELECT statement, in place of several steps.")
    filter: str | None = key("filter", default=None, doc="Keep the records for which the condition is true.")
    select: dict[str, str] = prefix_key("select.", doc="Make records of these columns only.")
    add: dict[str, str] = prefix_key("add.", doc="Add or replace columns.")
    lookup: dict[str, str] = prefix_key("lookup.", doc="`<column>: <table>[<expression>]`: add the row of a table.")
    missing: Annotated[Literal["null", "drop", "dead_letter", "wait"], LOWER] = key(
        "missing", default="null", doc="What a lookup does without a row."
    )
    branch: dict[str, str] = prefix_key("branch.", doc="`<name>: <condition>`: divide a stream into several.")
    flat_map: dict[str, str] = prefix_key("flat_map.", doc="`<column>: <array>`: one record for each element.")
    merge: CommaList = key("merge", default="", doc="Unite several streams.")
    key_by: str | None = key("key_by", default=None, doc="Expressions that become the key.")
    call: str | None = key(
        "call",
        default=None,
        doc="`module:function`, called with each record. Over "
        "REST, `connector.functions.allowed` of the worker must include it.",
    )
    batch: bool | None = key(
        "batch", default=None, doc="Call the function with a list of records; by default as `@headrace.stream` says."
    )
    function_timeout: Duration | None = key(
        "function.timeout",
        default=None,
        ge=1,
        doc="When a call has not returned for this time (30 s), the status shows the step, the function and its line. "
        "The call is not ended: Python cannot stop a thread.",
    )
    window: dict[str, str] = prefix_key("window.", doc="Aggregate over windows of event time.")
    join: dict[str, str] = prefix_key("join.", doc="Join two streams within an interval of event time.")
    deduplicate: dict[str, str] = prefix_key("deduplicate.", doc="Keep the first record of each key.")
    top: dict[str, str] = prefix_key("top.", doc="The first records of each group and window in an order.")
    pick: dict[str, str] = prefix_key("pick.", doc="Select a candidate for each request, by an experiment.")
    learn: dict[str, str] = prefix_key("learn.", doc="Learn the models of an experiment from labels.")

    OPERATIONS: ClassVar[tuple[str, ...]] = (
        *("sql", "filter", "select", "add", "lookup", "branch"),
        *("flat_map", "merge", "key_by", "call", "window", "join", "deduplicate", "top", "pick", "learn"),
    )


class WindowKeys(ConfigModel):
    """Keys of a window."""

    by: str = key("by", doc="Expressions of the groups, separated by commas.")
    tumbling: Duration | None = key("tumbling", default=None, ge=1, doc="The size of windows that do not overlap.")
    hopping: Duration | None = key("hopping", default=None, ge=1, doc="The size of windows that overlap.")
    advance: Duration | None = key("advance", default=None, ge=1, doc="The time from one hopping window to the next.")
    sliding: Duration | None = key(
        "sliding",
        default=None,
        ge=1,
        doc="The time between the first and the last moment of windows that end with a record or begin behind one.",
    )
    session: Duration | None = key("session", default=None, ge=1, doc="The gap of event time that ends a session.")
    grace: Duration = key("grace", ge=0, doc="How long after its end a window takes records that come late.")
    emit: Annotated[Literal["close", "change"], LOWER] = key(
        "emit", default="close", doc="One result when the window closes, or one for each record."
    )
    aggregate: dict[str, str] = prefix_key("aggregate.", doc="`<column>: <aggregate>`, such as `views: count(*)`.")


class JoinKeys(ConfigModel):
    """Keys of a join of two streams."""

    left: str = key("left", doc="The stream whose records are completed.")
    right: str = key("right", doc="The stream whose records are added.")
    type: Annotated[Literal["inner", "left"], LOWER] = key(
        "type", default="inner", doc="A result for each pair, or exactly one for each left record."
    )
    by: str = key("by", doc="Expressions that are equal on both sides, separated by commas.")
    right_by: str | None = key("right_by", default=None, doc="These expressions on the right side; by default `by`.")
    within: Duration = key("within", ge=0, doc="How long after the left record a right one may be, in event time.")
    before: Duration = key("before", default=0, ge=0, doc="How long before the left record a right one may be.")
    grace: Duration = key("grace", ge=0, doc="How far behind the newest record of its side a record may be.")
    stages: CommaList = key(
        "stages",
        default="",
        doc="Ages, such as `5m, 1h`, at which a left record without a match is written to `<step>.pending`.",
    )
    column: str | None = key("as", default=None, doc="The column for the right record; by default the right stream.")


class DeduplicateKeys(ConfigModel):
    """Keys of the removal of duplicates."""

    by: str = key("by", doc="Expressions of the key, separated by commas.")
    within: Duration = key("within", ge=1, doc="Records of a key with at most this time between them are duplicates.")
    grace: Duration = key("grace", ge=0, doc="How much older than the stream time a record may be.")


class TopKeys(ConfigModel):
    """Keys of the first records of each group and window."""

    by: str = key("by", doc="Expressions of the groups, separated by commas.")
    order: str = key("order", doc="The expression that orders the records, and `ASC` (default) or `DESC`.")
    limit: int = key("limit", ge=1, le=1000, doc="How many records of each group and window.")
    tumbling: Duration = key("tumbling", ge=1, doc="The size of the windows.")
    grace: Duration = key("grace", ge=0, doc="How long after its end a window takes records that come late.")


class OutputKeys(ConfigModel):
    """Keys of one output."""

    short_form: ClassVar[str] = "from"

    topic: str | None = key("topic", default=None, doc="The topic; by default the output's name.")
    source: str | None = key("from", default=None, doc="The stream to write; by default the last step.")


@dataclass(frozen=True)
class NamedKeys(Generic[M]):
    """The keys of one entry of a section."""

    name: str
    prefix: str
    """Such as ``steps.enriched``."""
    keys: M


def read_section(section: str, flat: Mapping[str, str], model: type[M]) -> tuple[list[NamedKeys[M]], list[Finding]]:
    """Return the entries of a section in order. Keys in findings are complete."""
    entries: dict[str, dict[str, str]] = {}
    findings: list[Finding] = []
    for name, text in flat.items():
        entry, _, rest = name.partition(".")
        short = getattr(model, "short_form", "")
        if not rest and not short:
            hint = f"write {section}.{entry}.<operation>, see docs/streams.md"
            findings.append(
                Finding("config.invalid_value", f"'{section}.{name}' is not a map", f"{section}.{name}", hint)
            )
            continue
        entries.setdefault(entry, {})[rest or short] = text
    found = []
    for entry, properties in entries.items():
        prefix = f"{section}.{entry}"
        parsed, problems = model.validate_properties(properties)
        findings += [_about_dots(_complete(problem, prefix), section, model) for problem in problems]
        if parsed is not None:
            found.append(NamedKeys(entry, prefix, parsed))
    return found, findings


def _about_dots(finding: Finding, section: str, model: type[ConfigModel]) -> Finding:
    """Say how to name a topic with dots: an unknown key may be the rest of its name."""
    if finding.code != "config.unknown_key" or finding.hint or "topic" not in model.model_fields:
        return finding
    topic = finding.key.removeprefix(f"{section}.")
    hint = f"if {topic} is a topic, name it as a property: {section}.<name>.topic: {topic}"
    return replace(finding, hint=hint)


def read_window(prefix: str, flat: Mapping[str, str]) -> tuple[WindowKeys | None, list[Finding]]:
    """Return the keys of a step's window."""
    parsed, problems = WindowKeys.validate_properties(flat)
    return parsed, [_complete(problem, f"{prefix}.window") for problem in problems]


def read_join(prefix: str, flat: Mapping[str, str]) -> tuple[JoinKeys | None, list[Finding]]:
    """Return the keys of a step's join."""
    parsed, problems = JoinKeys.validate_properties(flat)
    return parsed, [_complete(problem, f"{prefix}.join") for problem in problems]


def read_deduplicate(prefix: str, flat: Mapping[str, str]) -> tuple[DeduplicateKeys | None, list[Finding]]:
    """Return the keys of a step's removal of duplicates."""
    parsed, problems = DeduplicateKeys.validate_properties(flat)
    return parsed, [_complete(problem, f"{prefix}.deduplicate") for problem in problems]


def read_top(prefix: str, flat: Mapping[str, str]) -> tuple[TopKeys | None, list[Finding]]:
    """Return the keys of a step's first records."""
    parsed, problems = TopKeys.validate_properties(flat)
    return parsed, [_complete(problem, f"{prefix}.top") for problem in problems]


def read_operation(prefix: str, operation: str, flat: Mapping[str, str], model: type[M]) -> tuple[M, list[Finding]]:
    """Return the keys of an operation, and warnings. Raise ConfigError with all findings when there are errors."""
    parsed, problems = model.validate_properties(flat)
    findings = [_complete(problem, f"{prefix}.{operation}") for problem in problems]
    if parsed is None:
        raise ConfigError(findings=findings)
    return parsed, findings


def _complete(finding: Finding, prefix: str) -> Finding:
    name = f"{prefix}.{finding.key}" if finding.key else prefix
    message = finding.message
    for form in ("for configuration {}:", 'required configuration "{}"', "key '{}'"):
        message = message.replace(form.format(finding.key), form.format(name), 1)
    return replace(finding, key=name, message=message)
