"""The conformance suite of sinks. Inherit it and define how to read back written records; pytest checks the contract.

::

    class TestMySink(SinkConformance):
        connector = MySinkConnector

        @pytest.fixture
        def properties(self, server) -> dict[str, str]:
            return {"url": server.url}

        @pytest.fixture
        def read_back(self, server, topic) -> ReadBack:
            return lambda: {row.key: row.value for row in server.rows(topic)}

        @pytest.fixture
        def bad_value(self) -> Any:
            return {"n": "not a number"}
"""

from __future__ import annotations

import copy
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from headrace.errors import ConfigError, DataError, InfrastructureError, RetriableError
from headrace.plugin import Connector, SinkConnector, SinkTask
from headrace.records import Rejection, SinkBatch, TopicPartition
from headrace.testing.contexts import RecordedStatusReasons, make_sink_context
from headrace.testing.one_thread import on_one_thread

ReadBack = Callable[[], Mapping[str, Any]]
"""What the sink's system holds of the test's topic: value by key."""

SECONDS_TO_END = 30.0
"""A call that has not ended by then hangs."""
_UNKNOWN_KEY = "no.such.key"


class SinkConformance:
    """The suite. A subclass sets ``connector``, and defines the fixtures that raise NotImplementedError here."""

    connector: ClassVar[type[SinkConnector]]
    keyed: ClassVar[bool] = True
    """Whether a later record of a key replaces the earlier one, so that the same record twice changes nothing."""

    @pytest.fixture
    def properties(self) -> dict[str, str]:
        """The sink's own configuration, for a system that is available."""
        raise NotImplementedError("define the fixture `properties`: the configuration to test the sink with")

    @pytest.fixture
    def read_back(self) -> ReadBack:
        """Return a function that reads the records of ``topic`` in the system at the time of the call."""
        raise NotImplementedError("define the fixture `read_back`: a function that returns the values by key")

    @pytest.fixture
    def bad_value(self) -> Any:
        """A value that the sink rejects, while it accepts those of :meth:`value`."""
        raise NotImplementedError("define the fixture `bad_value`: a value that the sink rejects")

    @pytest.fixture
    def unreachable(self, properties: dict[str, str]) -> dict[str, str] | None:
        """The configuration for a system that is unavailable; None when the sink writes to nothing that can be."""
        return None

    @pytest.fixture
    def topic(self) -> str:
        """The name of a new topic."""
        return f"t_{uuid.uuid4().hex[:12]}"

    def value(self, number: int) -> Any:
        """Return the value of the record ``number``; equal numbers have equal values."""
        text = f'ä "{number}"\n'
        return {"n": number, "text": text, "nothing": None, "list": [1.5, 2.5], "flag": True, "inner": {"n": number}}

    # For the tests below

    @pytest.fixture
    def status_reasons(self) -> RecordedStatusReasons:
        return RecordedStatusReasons()

    @pytest.fixture
    def stop_event(self) -> threading.Event:
        return threading.Event()

    @pytest.fixture
    def start(
        self, stop_event: threading.Event, status_reasons: RecordedStatusReasons
    ) -> Iterator[Callable[..., SinkTask]]:
        """Return a function that starts tasks; all are stopped after the test."""
        tasks: list[SinkTask] = []

        def start(properties: Mapping[str, str]) -> SinkTask:
            task = self.connector.task_class()
            tasks.append(task)
            task.start(make_sink_context(properties, stop_event=stop_event, set_status_reason=status_reasons))
            return task

        yield start
        for task in tasks:
            task.stop()

    def batch(self, topic: str, numbers: Sequence[int], *, first: int = 0, partition: int = 0) -> SinkBatch:
        """Return records with keys ``k<number>`` at consecutive offsets."""
        count = len(numbers)
        return SinkBatch(
            TopicPartition(topic, partition),
            topic,
            list(range(first, first + count)),
            [f"k{number}" for number in numbers],
            [self.value(number) for number in numbers],
            [1_700_000_000_000 + number for number in numbers],
            [()] * count,
        )

    def expected(self, *numbers: int) -> dict[str, Any]:
        return {f"k{number}": self.value(number) for number in numbers}

    # The contract

    def test_every_record_of_a_put_is_durable(
        self, start: Callable[..., SinkTask], properties: dict[str, str], read_back: ReadBack, topic: str
    ) -> None:
        task = start(properties)

        assert list(task.put([self.batch(topic, range(100)), self.batch(topic, [100, 101], partition=1)])) == []
        assert read_back() == self.expected(*range(102))

    def test_a_second_put_adds_its_records(
        self, start: Callable[..., SinkTask], properties: dict[str, str], read_back: ReadBack, topic: str
    ) -> None:
        task = start(properties)
        for number in range(5):
            assert list(task.put([self.batch(topic, [number], first=number)])) == []

        assert read_back() == self.expected(*range(5))

    def test_a_put_of_no_records_is_accepted(
        self, start: Callable[..., SinkTask], properties: dict[str, str], topic: str
    ) -> None:
        task = start(properties)

        assert list(task.put([])) == []
        assert list(task.put([self.batch(topic, [])])) == []

    def test_repeated_batches_change_nothing(
        self, start: Callable[..., SinkTask], properties: dict[str, str], read_back: ReadBack, topic: str
    ) -> None:
        task = start(properties)
        batches = [self.batch(topic, [1, 2, 1, 3]), self.batch(topic, [4], partition=1)]
        assert list(task.put(batches)) == []
        assert list(task.put(batches)) == []
        # As after a crash: another task receives them again.
        assert list(start(properties).put(batches)) == []

        if self.keyed:
            assert read_back() == self.expected(1, 2, 3, 4)

    def test_the_last_record_of_a_key_is_kept(
        self, start: Callable[..., SinkTask], properties: dict[str, str], read_back: ReadBack, topic: str
    ) -> None:
        batch = self.batch(topic, range(50))
        batch.keys = ["k0"] * 50

        assert list(start(properties).put([batch])) == []
        if self.keyed:
            assert read_back() == {"k0": self.value(49)}

    def test_a_put_does_not_change_its_batches(
        self, start: Callable[..., SinkTask], properties: dict[str, str], topic: str
    ) -> None:
        batches = [self.batch(topic, range(3))]
        before = copy.deepcopy(batches)
        start(properties).put(batches)

        assert batches == before

    def test_rejections_name_their_records_and_all_others_are_durable(
        self,
        start: Callable[..., SinkTask],
        properties: dict[str, str],
        read_back: ReadBack,
        topic: str,
        bad_value: Any,
    ) -> None:
        one = self.batch(topic, range(10), first=1000)
        other = self.batch(topic, range(10, 20), first=0, partition=7)
        # A first put of valid records, so that the system knows their types.
        task = start(properties)
        assert list(task.put([self.batch(topic, [100], first=999)])) == []
        for batch, places in ((one, (0, 4)), (other, (9,))):
            batch.values = [bad_value if place in places else value for place, value in enumerate(batch.values)]
        rejections = task.put([one, other])

        assert sorted(item[:2] for item in rejections) == [((topic, 0), 1000), ((topic, 0), 1004), ((topic, 7), 9)]
        for rejection in rejections:
            assert isinstance(rejection, Rejection)
            assert isinstance(rejection.error, DataError)
            assert rejection.error.message
        assert read_back() == self.expected(*({*range(20), 100} - {0, 4, 19}))

    def test_no_status_reason_is_left_after_a_successful_put(
        self,
        start: Callable[..., SinkTask],
        properties: dict[str, str],
        status_reasons: RecordedStatusReasons,
        topic: str,
    ) -> None:
        start(properties).put([self.batch(topic, range(3))])

        assert status_reasons.current is None

    def test_a_call_of_idle_changes_nothing(
        self,
        start: Callable[..., SinkTask],
        properties: dict[str, str],
        read_back: ReadBack,
        status_reasons: RecordedStatusReasons,
        topic: str,
    ) -> None:
        task = start(properties)
        task.idle()
        assert list(task.put([self.batch(topic, range(3))])) == []
        task.idle()
        task.idle()

        assert read_back() == self.expected(0, 1, 2)
        assert status_reasons.current is None

    def test_a_put_ends_when_the_task_is_stopped(
        self, properties: dict[str, str], read_back: ReadBack, topic: str
    ) -> None:
        stop_event = threading.Event()

        def run() -> bool:
            """put, which has to return or to raise RetriableError,"""
            task = self.connector.task_class()
            task.start(make_sink_context(properties, stop_event=stop_event))
            stop_event.set()
            try:
                task.put([self.batch(topic, range(3))])
            except RetriableError:
                return False
            finally:
                task.stop()
            return True

        is_written = on_one_thread(run, SECONDS_TO_END)
        assert not is_written or read_back() == self.expected(0, 1, 2)

    def test_a_stopped_task_leaves_no_thread(
        self, start: Callable[..., SinkTask], properties: dict[str, str], topic: str
    ) -> None:
        before = set(threading.enumerate())
        task = start(properties)
        task.put([self.batch(topic, range(100))])
        task.stop()

        for thread in set(threading.enumerate()) - before:
            thread.join(SECONDS_TO_END)
            assert not thread.is_alive(), f"thread {thread.name} is left"

    def test_an_unavailable_system_is_an_error_with_its_own_code(self, unreachable: dict[str, str] | None) -> None:
        if unreachable is None:
            return
        task = self.connector.task_class()
        with pytest.raises((RetriableError, InfrastructureError)) as raised:
            task.start(make_sink_context(unreachable))
        task.stop()

        assert raised.value.code not in ("retriable", "environment", "internal"), "give the error a code of its own"
        if self.connector.check is not Connector.check:
            assert [finding.severity for finding in self.connector().check(unreachable)] == ["error"]

    def test_a_check_finds_no_error_in_a_valid_configuration(self, properties: dict[str, str]) -> None:
        assert list(self.connector().check(properties)) == []

    def test_a_task_can_be_stopped_after_a_failed_start(self, properties: dict[str, str]) -> None:
        task = self.connector.task_class()
        with pytest.raises(ConfigError):
            task.start(make_sink_context(properties | {_UNKNOWN_KEY: "1"}))

        task.stop()

    def test_an_unknown_key_is_an_error(self, properties: dict[str, str]) -> None:
        model, findings = self.connector.config_model.validate_properties(properties | {_UNKNOWN_KEY: "1"})

        assert model is None
        assert [(item.code, item.key) for item in findings if item.severity == "error"] == [
            ("config.unknown_key", _UNKNOWN_KEY)
        ]

    def test_a_missing_required_key_is_an_error(self) -> None:
        required = {item.name for item in self.connector.config_model.definitions() if item.required}
        _, findings = self.connector.config_model.validate_properties({})

        assert {item.key for item in findings if item.code == "config.missing_key"} == required

    def test_every_key_is_documented(self) -> None:
        assert [item.name for item in self.connector.config_model.definitions() if not item.doc] == []

    def test_task_configurations_are_complete(self, properties: dict[str, str]) -> None:
        configs = self.connector().task_configs(properties, 3)

        assert 1 <= len(configs) <= 3
        for config in configs:
            self.connector.config_model.parse(config)
