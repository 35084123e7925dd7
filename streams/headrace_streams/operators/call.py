"""The operator that calls Python functions, and what a watchdog can see of a call from another thread."""

from __future__ import annotations

import operator
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace import DataError, Segments
from headrace_streams.operators.operator import Operator, StepPlace, StepRefusal, StepResult, Tables
from headrace_streams.rows import Rows

Function = Callable[[Any], Any]


@dataclass(frozen=True)
class RunningCall:
    """A call of one batch. Another thread reads it, and counts the records that are left in the iterator itself, so
    that watching costs nothing for each record."""

    thread: int
    since: float
    """``time.monotonic()``."""
    records: int
    left: Iterator[Any] | None
    """None: the function has the whole batch at once."""

    def progress(self) -> str:
        """Return how far the call is, for a status: ``record 3 of 4,000``."""
        if self.left is None:
            return f"{self.records:,} records"
        return f"record {self.records - operator.length_hint(self.left):,} of {self.records:,}"

    def location(self, file: str) -> str:
        """Return the line that the thread executes at this moment, in ``file`` if it is in a call from there."""
        frame = sys._current_frames().get(self.thread)
        frames = list(traceback.walk_stack(frame)) if frame is not None else []  # the innermost first
        for found, line in frames:
            if found.f_code.co_filename == file:
                return f"{file}:{line}"
        return f"{frames[0][0].f_code.co_filename}:{frames[0][1]}" if frames else file


class CallWatch:
    """Holds the call that a step is in."""

    def __init__(self) -> None:
        self.call: RunningCall | None = None

    def begin(self, records: int, left: Iterator[Any] | None) -> None:
        self.call = RunningCall(threading.get_ident(), time.monotonic(), records, left)

    def end(self) -> None:
        self.call = None


@dataclass(frozen=True)
class Call(Operator):
    """Calls a Python function: with a record, or with the list of a batch's records.

    It returns a record (a dict), a list of records, or None to drop it; in batch form a list of these, or of the
    exceptions of single records. It must be pure: a batch may be processed again.
    """

    function: Function
    path: str
    batch: bool
    timeout: int
    """Milliseconds after which the status shows that a call has not returned."""
    place: StepPlace
    watch: CallWatch = field(default_factory=CallWatch, compare=False)

    def process(self, rows: Rows, tables: Tables, state: Segments) -> StepResult:
        copies = [dict(row) for row in rows.values]  # the function may change what it is given
        left = iter(copies)
        self.watch.begin(len(copies), None if self.batch else left)
        try:
            results = self._batch_results(copies) if self.batch else list(map(self._result, left))
        finally:
            self.watch.end()
        places: list[int] = []
        made: list[dict[str, Any]] = []
        refusals: list[StepRefusal] = []
        dropped = 0
        for number, result in enumerate(results):
            if isinstance(result, dict):
                places.append(number)
                made.append(result)
            elif result is None or result == []:
                dropped += 1
            elif isinstance(result, list) and all(isinstance(item, dict) for item in result):
                places += [number] * len(result)
                made += result
            else:
                refusals.append(self._refusal(rows.origins[number], result))
        return StepResult({"": rows.only(places).with_values(made)}, refusals, dropped=dropped)

    def _result(self, record: Mapping[str, Any]) -> Any:
        try:
            return self.function(record)
        except Exception as error:  # the user's function: whatever it raises is about this record
            return error

    def _batch_results(self, records: list[dict[str, Any]]) -> list[Any]:
        originals = [dict(record) for record in records]
        try:
            results = list(self.function(records))
        except Exception:  # which record it is about is found one by one
            results = []
            for record in originals:
                single = self._result([record])  # type: ignore[arg-type]
                results.append(single[0] if isinstance(single, list) and len(single) == 1 else single)
            return results
        if len(results) != len(records):
            return [TypeError(f"the function returned {len(results)} results for {len(records)} records")] * len(
                records
            )
        return results

    def _refusal(self, origin: int, result: Any) -> StepRefusal:
        code, function = "stream.function_failed", self.definition
        if isinstance(result, DataError):
            return self.place.refusal(origin, self.path, result.message, result.code, function=function)
        if isinstance(result, Exception):
            function = _raised_at(result, self.file) or function
            text = f"raised {type(result).__name__} at {function}"
            refusal = self.place.refusal(origin, self.path, text, code, function=function)
            refusal.error.__cause__ = result
            return refusal
        text = f"returned {type(result).__name__}, not a dict, a list of dicts or None"
        return self.place.refusal(origin, self.path, text, code, function=function)

    @property
    def file(self) -> str:
        """The file of the function; empty when it has none, such as a builtin."""
        code = getattr(self.function, "__code__", None)
        return code.co_filename if code is not None else ""

    @property
    def definition(self) -> str:
        """The file and line of the function, or its path when it has none."""
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code is not None else self.path

    def describe(self) -> str:
        return f"call {self.path}{' with batches' if self.batch else ''}"


def _raised_at(error: Exception, file: str) -> str:
    """Return the line that raised, or the last one in ``file`` on the way there; empty when it was not raised."""
    lines = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    lines = [item for item in lines if item[0] != __file__]
    own = [item for item in lines if item[0] == file] or lines
    return "{}:{}".format(*own[-1]) if own else ""
