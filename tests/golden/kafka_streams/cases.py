"""The cases: a topology of ``Reference.java``, its parameters, and the records that it is given."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "results.jsonl"
"""One case a line: its name, the SHA-256 of its records, the outputs, and the number of dropped records."""

PARTITIONS = 3
START = 1_000_000
"""The first event time: no hopping window begins before 1970, which Kafka Streams does not have."""
END = 1_000_000_000
"""The event time of the last record of each partition, which closes everything before it."""
HOUR, MINUTE = 3_600_000, 60_000


class Given(NamedTuple):
    """A record that is given to the topology."""

    topic: str
    partition: int
    key: str | None
    value: dict[str, Any] | None
    time: int


class Output(NamedTuple):
    """A record that the topology wrote. ``partition`` is that of the records that made it."""

    topic: str
    partition: int
    key: str | None
    value: dict[str, Any]
    time: int


class Result(NamedTuple):
    """What Kafka Streams made of a case."""

    outputs: list[Output]
    dropped: int
    """Records that it counted as dropped: late, or with a null that the operation cannot take."""

    def of(self, topic: str) -> list[Output]:
        return [output for output in self.outputs if output.topic == topic]


@dataclass(frozen=True)
class Case:
    """One case. Its records are in the order in which they are processed."""

    name: str
    topology: str
    parameters: dict[str, Any]
    records: Sequence[Given]

    @property
    def checksum(self) -> str:
        return hashlib.sha256(json.dumps(self.records).encode()).hexdigest()


@dataclass
class _Generator:
    """Event times are mostly ascending: some are behind by what ``lag`` returns."""

    seed: str
    step: int
    lag: Callable[[random.Random], int]
    chance: random.Random = field(init=False)
    times: dict[tuple[str, int], int] = field(default_factory=dict)
    """The highest event time of each partition."""
    numbers: int = 0

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def below(self, limit: int) -> int:
        return int(self.chance.random() * limit)

    def record(self, topic: str, *, clock: str = "", empty: float = 0.03, **columns: Any) -> Given:
        """Return the next record: 3 % have no key, ``empty`` no value, and these are never behind the others."""
        self.numbers += 1
        key = None if self.chance.random() < 0.03 else "abcdef"[self.below(6)]
        partition = self.below(PARTITIONS) if key is None else ord(key) % PARTITIONS
        no_value = key is not None and self.chance.random() < empty
        time = self.times.get((clock, partition), START)
        if key is not None and not no_value:
            time = self._moved(time)
            self.times[clock, partition] = max(time, self.times.get((clock, partition), START))
        amount = None if self.chance.random() < 0.1 else self.below(1_000)
        value = {"id": self.numbers, "k": key, "amount": amount, **columns}
        return Given(topic, partition, key, None if no_value else value, time)

    def _moved(self, time: int) -> int:
        if self.chance.random() < 0.35:
            return max(START, time - self.lag(self.chance))
        return time + self.below(self.step) + 1

    def last(self, topics: Sequence[str]) -> Iterator[Given]:
        for partition in range(PARTITIONS):
            for topic in topics:
                self.numbers += 1
                value = {"id": self.numbers, "k": "end", "amount": 0}
                yield Given(topic, partition, "end", value, END)


def equal_cases() -> Iterator[Case]:
    """Yield the cases in which headrace has the same results."""
    for seed in ("1", "2"):
        yield Case(f"table_join {seed}", "table_join", {}, _table_records(seed))
        yield Case(
            f"global_table_join {seed}", "global_table_join", {"broadcast": ["table"]}, _table_records(f"global {seed}")
        )
        tumbling = {"size": MINUTE, "advance": MINUTE, "grace": 10_000}
        yield Case(f"tumbling {seed}", "time_window", tumbling, _window_records(f"tumbling {seed}", 2 * MINUTE))
        hopping = {"size": MINUTE, "advance": 20_000, "grace": 10_000}
        yield Case(f"hopping {seed}", "time_window", hopping, _window_records(f"hopping {seed}", 4 * MINUTE, 80))
        # A record within the grace is in all of its windows.
        sliding = {"difference": 20_000, "grace": MINUTE}
        yield Case(f"sliding {seed}", "sliding_window", sliding, _window_records(f"sliding {seed}", MINUTE - 1))
        session = {"gap": 30_000, "grace": 12_000}
        yield Case(f"session {seed}", "session_window", session, _session_records(f"session {seed}", 4 * MINUTE))
        join = {"before": 0, "after": HOUR, "grace": 10 * MINUTE}
        yield Case(f"interval_join {seed}", "interval_join", join, _join_records(f"join {seed}", 10 * MINUTE))
        join = {"before": 5 * MINUTE, "after": 20 * MINUTE, "grace": 10 * MINUTE}
        yield Case(f"two_sided_join {seed}", "interval_join", join, _join_records(f"two {seed}", 10 * MINUTE))


def different_cases() -> Iterator[Case]:
    """Yield small cases in which the results differ, as docs/streams.md says."""
    window = {"size": 10, "advance": 10, "grace": 0}
    yield Case("null_group", "time_window", window, [_view(1, None, 0), _view(2, "a", 1), _view(3, "a", 30)])
    nulls = Given("stream", 0, "a", None, 0)
    yield Case("null_value", "time_window", {**window, "nulls": True}, [nulls, _view(2, "a", 1), _view(3, "a", 30)])
    hopping = {"size": 10, "advance": 5, "grace": 0}
    yield Case("window_before_1970", "time_window", hopping, [_view(1, "a", 2), _view(2, "b", 30)])
    yield Case("event_time", "time_window", window, [_view(1, "a", 7), _view(2, "a", 3), _view(3, "b", 30)])
    session = {"gap": 10, "grace": 0}
    yield Case(
        "session_at_its_last_moment",
        "session_window",
        session,
        [_view(1, "a", 0), _view(2, "b", 10), _view(3, "a", 0), _view(4, "b", 100)],
    )
    sliding = {"difference": 200, "grace": 0}
    late = [_view(n, "a", time) for n, time in enumerate((1_000, 1_100, 950, 1_120, 9_000), 1)]
    yield Case("sliding_late", "sliding_window", sliding, late)
    yield Case(
        "sliding_at_its_last_moment", "sliding_window", sliding, [_view(n, "a", 1_000) for n in (1, 2)] + late[-1:]
    )
    join = {"before": 0, "after": 100, "grace": 50}
    left, right = _side("left"), _side("right")
    end = [left("z", 9_000), right("z", 9_000)]
    yield Case("join_of_several", "interval_join", join, [left("a", 0), right("a", 10), right("a", 20), *end])
    disorder = [left("b", 1_000), right("b", 1_140), left("a", 1_000), right("a", 1_095), *end]
    yield Case("join_within_grace", "interval_join", join, disorder)
    backlog = [right("a", 50), right("b", 5_000), left("a", 0), left("b", 5_000), *end]
    yield Case("join_with_a_backlog", "interval_join", join, backlog)
    late = [left("b", 1_000), right("a", 960), left("a", 940), *end]
    yield Case("join_of_a_late_record", "interval_join", join, late)


def cases() -> Iterator[Case]:
    """Yield all cases, in the order of the file."""
    yield from equal_cases()
    yield from different_cases()


def stored() -> dict[str, Result]:
    """Return the recorded results by the names of the cases. Raise ValueError if they are those of other records."""
    lines = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
    expected = {case.name: case.checksum for case in cases()}
    if {line["case"]: line["records"] for line in lines} != expected:
        raise ValueError("the cases have changed: run scripts/record_kafka_streams_results.py")
    return {line["case"]: Result([Output(*row) for row in line["outputs"]], line["dropped"]) for line in lines}


def as_line(case: Case, answer: dict[str, Any]) -> str:
    """Return the line of the file."""
    line = {"case": case.name, "records": case.checksum, **answer}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def _table_records(seed: str) -> list[Given]:
    """Changes of a table, tombstones among them, and records that look rows up. All in one order."""
    generator = _Generator(f"table {seed}", 1_000, lambda chance: int(chance.random() * 5_000))
    records = []
    for _ in range(160):
        if generator.chance.random() < 0.35:
            records.append(generator.record("table", clock="table", empty=0.2, version=generator.numbers))
        else:
            reference = None if generator.chance.random() < 0.1 else "abcdefg"[generator.below(7)]
            records.append(generator.record("stream", ref=reference))
    return records


def _window_records(seed: str, longest: int, records: int = 160) -> list[Given]:
    generator = _Generator(seed, 12_000, lambda chance: int(chance.random() * longest) + 1)
    return [*(generator.record("stream") for _ in range(records)), *generator.last(["stream"])]


def _session_records(seed: str, longest: int) -> list[Given]:
    generator = _Generator(seed, 16_000, lambda chance: int(chance.random() * longest) + 1)
    records = [generator.record("stream") for _ in range(140)]
    return [*records, *generator.last(["stream"])]


def _join_records(seed: str, grace: int) -> list[Given]:
    """Both sides advance together; no record is behind its side by the grace."""
    generator = _Generator(seed, 10 * MINUTE, lambda chance: int(chance.random() * (grace - 1)) + 1)
    records = [generator.record("left" if generator.chance.random() < 0.6 else "right") for _ in range(140)]
    return [*records, *generator.last(["left", "right"])]


def _view(number: int, key: str | None, time: int) -> Given:
    return Given("stream", 0, key, {"id": number, "k": key, "amount": number}, time)


def _side(topic: str) -> Callable[[str, int], Given]:
    def record(key: str, time: int) -> Given:
        return Given(topic, 0, key, {"id": f"{topic} {time}", "k": key}, time)

    return record
