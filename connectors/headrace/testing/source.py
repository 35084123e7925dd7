"""Conformance suites of sources. Inherit one and define the records to read; pytest checks the contract.

::

    class TestDatagen(SourceConformance):
        connector = DatagenSourceConnector
        largest_batch = 3

        @pytest.fixture
        def properties(self): return {"topic": "answers", "rows": "3", "max.messages": "10", "interval.ms": "0"}

        @pytest.fixture
        def expected(self): return set(range(1, 11))

        def identity(self, batch, place): return batch.values[place]["answer_id"]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import ClassVar

import orjson
import pytest

from headrace.errors import RetriableError
from headrace.plugin import SourceConnector, SourceTask, Wait
from headrace.records import SourceBatch
from headrace.testing.contexts import Offsets, make_source_context
from headrace.testing.one_thread import on_one_thread
from headrace.testing.values import mismatch

_PROMPT = 10.0  # seconds; far more than a prompt poll takes, far less than one that waits for something


class SourceConformance:
    """The suite. A subclass gives ``connector``, ``largest_batch``, the two fixtures and :meth:`identity`."""

    connector: ClassVar[type[SourceConnector]]
    largest_batch: ClassVar[int]
    """Most records that a batch may have with ``properties``; fewer than half of the expected records."""

    @pytest.fixture
    def properties(self) -> Mapping[str, str]:
        """A configuration that reads all records at once, and then has no more for at least a minute."""
        raise NotImplementedError("define the fixture `properties`: the configuration to test the source with")

    @pytest.fixture
    def expected(self) -> set[Hashable]:
        """The identities of all records of the system."""
        raise NotImplementedError("define the fixture `expected`: the identities of all records of the source")

    def identity(self, batch: SourceBatch, place: int) -> Hashable:
        """Return a value that identifies a record of ``batch``."""
        raise NotImplementedError("define `identity`: what tells one record from every other, such as its id")

    # For subclasses and the tests below.

    @pytest.fixture
    def start(self, properties: Mapping[str, str]) -> Iterator[Callable[[Offsets | None], SourceTask]]:
        """Return a function that starts tasks; all are stopped after the test, as a worker stops them."""
        stop_event = threading.Event()
        tasks: list[SourceTask] = []

        def begin(offsets: Offsets | None = None) -> SourceTask:
            [configuration] = self.connector().task_configs(properties, 1)
            tasks.append(self.connector.task_class())
            tasks[-1].start(make_source_context(configuration, offsets, stop_event=stop_event))
            return tasks[-1]

        yield begin
        stop_event.set()
        for task in tasks:
            task.stop()

    def drain(self, task: SourceTask, found: list[SourceBatch] | None = None) -> list[SourceBatch]:
        """Return every batch until there are no more; each is added to ``found`` at once."""
        batches = found if found is not None else []
        while not (isinstance(answer := task.poll(), Wait) and answer.seconds > 0):
            if not isinstance(answer, Wait):
                batches.append(answer)
        return batches

    def identities(self, batches: list[SourceBatch]) -> list[Hashable]:
        """Return the identities of all records, in order."""
        return [self.identity(batch, place) for batch in batches for place in range(len(batch))]

    # The contract.

    def test_every_key_is_documented(self) -> None:
        undocumented = [item.name for item in self.connector.config_model.definitions() if len(item.doc) < 20]

        assert undocumented == []

    def test_an_unknown_key_is_an_error_that_names_the_nearest(self, properties: Mapping[str, str]) -> None:
        known = next(item.name for item in self.connector.config_model.definitions() if not item.prefix_key)
        model, findings = self.connector.config_model.validate_properties({**properties, f"x{known}": "1"})

        assert model is None
        [finding] = [item for item in findings if item.severity == "error"]
        assert (finding.code, finding.key) == ("config.unknown_key", f"x{known}")
        assert known in finding.hint

    def test_a_missing_required_key_is_an_error(self, properties: Mapping[str, str]) -> None:
        for definition in self.connector.config_model.definitions():
            if definition.required:
                without = {name: value for name, value in properties.items() if name != definition.name}
                _, findings = self.connector.config_model.validate_properties(without)
                assert ("config.missing_key", definition.name) in [(item.code, item.key) for item in findings]

    def test_there_are_never_more_tasks_than_allowed(self, properties: Mapping[str, str]) -> None:
        for most in (1, 2, 7):
            assert 1 <= len(self.connector().task_configs(properties, most)) <= most

    def test_a_check_finds_no_error_in_a_valid_configuration(self, properties: Mapping[str, str]) -> None:
        assert [item for item in self.connector().check(properties) if item.severity == "error"] == []

    def test_each_record_is_read_once(
        self, start: Callable[[Offsets | None], SourceTask], expected: set[Hashable]
    ) -> None:
        found = self.identities(self.drain(start(None)))

        assert set(found) == expected
        assert len(found) == len(expected)

    def test_batches_are_neither_empty_nor_too_large(self, start: Callable[[Offsets | None], SourceTask]) -> None:
        sizes = [len(batch) + len(batch.rejections) for batch in self.drain(start(None))]

        assert all(1 <= size <= self.largest_batch for size in sizes)
        assert len(sizes) > 1, "largest_batch is too large for this test to mean something"

    def test_columns_of_a_batch_have_equal_length(self, start: Callable[[Offsets | None], SourceTask]) -> None:
        for batch in self.drain(start(None)):
            for column in (batch.keys, batch.timestamps, batch.headers):
                assert column is None or len(column) == len(batch.values)

    def test_values_and_keys_match_their_schemas(self, start: Callable[[Offsets | None], SourceTask]) -> None:
        for batch in self.drain(start(None)):
            if batch.value_schema is not None:
                assert [mismatch(batch.value_schema, value) for value in batch.values] == [None] * len(batch)
            if batch.key_schema is not None:
                assert [mismatch(batch.key_schema, key) for key in batch.keys or ()] == [None] * len(batch.keys or ())

    def test_positions_are_unchanged_by_json(self, start: Callable[[Offsets | None], SourceTask]) -> None:
        for batch in self.drain(start(None)):
            for position in (batch.source_partition, batch.source_offset):
                if position is not None:
                    assert orjson.loads(orjson.dumps(dict(position))) == position

    def test_a_restart_at_any_acknowledged_offset_loses_nothing(
        self, start: Callable[[Offsets | None], SourceTask], expected: set[Hashable]
    ) -> None:
        batches = self.drain(start(None))
        offsets = Offsets()
        for count, batch in enumerate(batches, 1):
            for position in batch.positions():
                offsets.set(*position)
            rest = self.drain(start(offsets.copy()))
            assert expected - set(self.identities(batches[:count])) <= set(self.identities(rest))

    def test_a_restart_at_the_end_reads_nothing_again(self, start: Callable[[Offsets | None], SourceTask]) -> None:
        offsets = Offsets()
        for batch in self.drain(start(None)):
            for position in batch.positions():
                offsets.set(*position)

        assert self.identities(self.drain(start(offsets))) == []

    def test_a_poll_returns_at_once_after_a_stop(self, properties: Mapping[str, str]) -> None:
        stop_event = threading.Event()
        [configuration] = self.connector().task_configs(properties, 1)

        def run() -> None:
            """a task that is told to stop before its first poll"""
            task = self.connector.task_class()
            task.start(make_source_context(configuration, stop_event=stop_event))
            stop_event.set()
            task.poll()
            task.stop()

        on_one_thread(run, _PROMPT)

    def test_a_failed_start_can_be_retried_and_stopped(
        self, properties: Mapping[str, str], expected: set[Hashable]
    ) -> None:
        offsets, stop_event = Offsets(unreachable=True), threading.Event()
        [configuration] = self.connector().task_configs(properties, 1)
        context = make_source_context(configuration, offsets, stop_event=stop_event)
        failed, recovered = self.connector.task_class(), self.connector.task_class()
        for task in (failed, recovered):
            with pytest.raises(RetriableError):
                task.start(context)
        offsets.unreachable = False
        recovered.start(context)
        found = set(self.identities(self.drain(recovered)))
        stop_event.set()
        failed.stop()
        recovered.stop()

        assert found == expected

    def test_a_stopped_task_leaves_no_thread(self, properties: Mapping[str, str]) -> None:
        before = set(threading.enumerate())
        stop_event = threading.Event()
        [configuration] = self.connector().task_configs(properties, 1)
        task = self.connector.task_class()
        task.start(make_source_context(configuration, stop_event=stop_event))
        task.poll()
        stop_event.set()
        task.stop()
        left = set(threading.enumerate()) - before
        for thread in left:
            thread.join(_PROMPT)

        assert [thread.name for thread in left if thread.is_alive()] == []


class GrowingSourceConformance(SourceConformance):
    """For sources to which records can be added while a task runs."""

    @pytest.fixture
    def add_rows(self) -> Callable[[], set[Hashable]]:
        """Return a function that adds records for the next due poll of a drained task, and returns their identities."""
        raise NotImplementedError("define the fixture `add_rows`: a function that adds records and returns them")

    def test_records_added_later_are_read_after_a_restart(
        self, start: Callable[[Offsets | None], SourceTask], add_rows: Callable[[], set[Hashable]]
    ) -> None:
        offsets = Offsets()
        for batch in self.drain(start(None)):
            assert batch.source_partition is not None
            assert batch.source_offset is not None
            offsets.set(batch.source_partition, batch.source_offset)
        added = add_rows()

        assert added
        assert added <= set(self.identities(self.drain(start(offsets))))


class DisturbedSourceConformance(SourceConformance):
    """For sources whose system can be interrupted while a task reads."""

    @pytest.fixture
    def disturb(self) -> Callable[[], None]:
        """Return a function that makes a reading task fail with RetriableError once."""
        raise NotImplementedError("define the fixture `disturb`: a function that interrupts the source's system")

    def test_no_record_is_missing_after_a_retriable_error(
        self,
        start: Callable[[Offsets | None], SourceTask],
        disturb: Callable[[], None],
        expected: set[Hashable],
    ) -> None:
        task = start(None)
        first = task.poll()
        assert isinstance(first, SourceBatch)
        disturb()
        found, errors = [first], 0
        while errors < 10:
            try:
                self.drain(task, found)
                break
            except RetriableError:
                errors += 1

        assert 1 <= errors < 10
        assert set(self.identities(found)) == expected


__all__ = ["DisturbedSourceConformance", "GrowingSourceConformance", "SourceConformance"]
