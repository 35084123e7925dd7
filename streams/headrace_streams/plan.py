"""The plan of an application: what it reads, its steps in order, and what it writes. Immutable."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from headrace import StreamTopology
from headrace_streams.expressions import Columns, Projection
from headrace_streams.operators.operator import Operator


@dataclass(frozen=True)
class PlannedInput:
    """A stream that is read from a topic."""

    name: str
    topic: str
    columns: Columns
    time: Projection | None
    """None: the record's timestamp."""
    key_column: str | None
    """The column that the configuration says to be equal to the record's key."""
    key: str
    """The configuration key."""
    is_table: bool = False
    """Null values delete rows; they are dropped otherwise."""


@dataclass(frozen=True)
class PlannedTable:
    """A table. Of a global one every task has all rows; the others are read as inputs, too."""

    name: str
    topic: str
    columns: Columns
    key_column: str | None
    """None: the record's key."""
    partitioned: bool = False

    @property
    def stream(self) -> str:
        """Return the stream of the table's changes; no other stream has a name with a space."""
        return f"table {self.name}"


@dataclass(frozen=True)
class PlannedStep:
    """One step. Its streams are ``name`` and ``name.suffix``."""

    name: str
    sources: tuple[str, ...]
    operator: Operator
    shared_store: str = ""
    """The step whose state this one uses; empty: its own."""

    @property
    def store(self) -> str:
        return self.shared_store or self.name


@dataclass(frozen=True)
class Repartition:
    """An internal topic with the records of ``source``, partitioned by the keys of a step."""

    topic: str
    stream: str
    """The stream that is read from the topic."""
    source: PlannedStep
    """The step that makes the keys; its stream is written to the topic."""
    origins: tuple[str, ...]
    """The topics that determine how many partitions it has, see :class:`headrace.StreamTopology`."""


@dataclass(frozen=True)
class PlannedOutput:
    """A topic to which a stream is written."""

    topic: str
    stream: str
    key: str = field(default="", compare=False)
    """The configuration key of the output; empty if it has none."""


@dataclass(frozen=True)
class Plan:
    """An application. Steps refer to streams of inputs, repartitions and earlier steps only."""

    inputs: tuple[PlannedInput, ...]
    tables: tuple[PlannedTable, ...]
    steps: tuple[PlannedStep, ...]
    repartitions: tuple[Repartition, ...]
    outputs: tuple[PlannedOutput, ...]
    followed: tuple[tuple[str, str], ...]
    """Pairs of a stateful step and a topic whose partitions its state follows."""
    aligned: tuple[tuple[str, str], ...] = ()
    """The topics of a table and of the stream that looks it up, in the same partitions."""
    statement_places: Mapping[str, tuple[str, str]] = field(default_factory=dict, compare=False)
    """Key of a step that a SQL statement was translated to → the statement's key, and the place in the statement."""
    shared: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Topics that are written and read as tables, see :class:`headrace.StreamTopology`."""

    def written_at(self, key: str) -> tuple[str, str]:
        """Return the key where a step is written, and the place in its text; an empty text for steps in YAML."""
        part = key
        while part:
            if part in self.statement_places:
                return self.statement_places[part]
            part = part.rpartition(".")[0]
        return key, ""

    def topology(self) -> StreamTopology:
        """Return the topics and stores."""
        return StreamTopology(
            tuple(dict.fromkeys(item.topic for item in self.inputs)),
            tuple(
                dict.fromkeys(
                    item.topic for item in self.tables if not item.partitioned and item.topic not in self.shared
                )
            ),
            {item.topic: item.origins for item in self.repartitions},
            self.stores(),
            tuple(dict.fromkeys(item.topic for item in self.outputs if item.topic not in self.shared)),
            self.aligned,
            self.shared,
            {step.name: step.operator.state_definition() for step in self.steps if step.operator.stateful},
            hashlib.sha256("\n".join(self.explain()).encode()).hexdigest(),
        )

    def stores(self) -> dict[str, tuple[str, ...]]:
        """Return the topics whose partitions each store follows."""
        stores: dict[str, tuple[str, ...]] = {}
        for step, topic in self.followed:
            stores[step] = (*stores.get(step, ()), topic)
        return stores

    def explain(self) -> Iterator[str]:
        """Yield the plan as text, a line for each part."""
        for item in self.inputs:
            if item.is_table:
                continue
            time = "the record's timestamp" if item.time is None else next(iter(item.time.expressions.values())).text
            yield f"input   {item.name}: topic {item.topic}, event time: {time}"
        for table in self.tables:
            kind = "in the partitions of the stream" if table.partitioned else "global"
            yield f"table   {table.name}: topic {table.topic}, key: {table.key_column or 'of the record'}, {kind}"
        through = {item.stream: item for item in self.repartitions}
        stores = self.stores()
        for step in self.steps:
            for source in step.sources:
                if source in through:
                    parts = through[source]
                    yield (
                        f"topic   {parts.topic}: {', '.join(parts.source.sources)} by key "
                        f"({parts.source.operator.describe()})"
                    )
            sources = [through[name].source.sources[0] if name in through else name for name in step.sources]
            yield f"step    {step.name}: from {', '.join(sources)}: {step.operator.describe()}"
            if step.name in stores:
                topics = stores[step.name]
                yield f"state   {step.name}: in the partitions of {' and '.join(topics)}, with a changelog"
                if len(topics) > 1:
                    yield f"        {' and '.join(topics)} must have equally many partitions"
        for output in self.outputs:
            yield f"output  {output.topic}: {output.stream}"
