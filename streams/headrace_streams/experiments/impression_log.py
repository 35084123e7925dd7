"""A log of impressions with their outcomes: JSON lines, CSV, or the records of topics."""

from __future__ import annotations

import csv
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from headrace import ConfigError, nearest
from headrace_streams.exploration.screening import Codes, Variable
from headrace_streams.exploration.special import Floats

Impression = Mapping[str, Any]

_TRUE = {True, "1", "true", "True", "TRUE"}
_FALSE = {False, "0", "false", "False", "FALSE"}
_BINS = 6
_MOST_NUMBERS = 20
_MOST_LEVELS = 200
_MISSING, _OTHER = "missing", "other"


class ImpressionLog:
    """The impressions of files or topics, in order. Columns of nested objects have dotted names."""

    def __init__(self, rows: Sequence[Impression], source: str) -> None:
        if not rows:
            raise ConfigError(
                f"{source} has no records", code="experiment.empty_log", hint="name a log that has impressions"
            )
        self.rows = rows
        self.source = source

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def columns(self) -> list[str]:
        """The names of all columns, in the order in which they appear."""
        return list(dict.fromkeys(name for row in self.rows for name in _flat_names(row)))

    def only(self, positions: Iterable[int]) -> ImpressionLog:
        """Return the log of these rows."""
        return ImpressionLog([self.rows[position] for position in positions], self.source)

    def has(self, name: str) -> bool:
        """Return whether a row has a column, also with null."""
        return any(_has(row, name) for row in self.rows)

    def values(self, name: str) -> list[Any]:
        """Return the values of a column, None where it is missing. Raise ConfigError when no row has it."""
        found = [_value(row, name) for row in self.rows]
        if all(value is None for value in found) and not self.has(name):
            known = self.columns
            raise ConfigError(
                f"{self.source} has no column {name!r}",
                code="experiment.unknown_column",
                hint=nearest(name, known) or f"columns: {', '.join(known[:30])}",
            )
        return found

    def numbers(self, name: str) -> Floats:
        """Return a column of finite numbers. Raise ConfigError that names the first row without one."""
        found = []
        for position, value in enumerate(self.values(name)):
            number = _number(value)
            if number is None:
                raise self.refused(position, name, value, "a number")
            found.append(number)
        return np.array(found)

    def outcomes(self, name: str) -> list[bool | None]:
        """Return a column of outcomes; None for impressions whose outcome is not known yet. Raise ConfigError.

        A column of objects is the result of a left join: an object is a conversion, and null is none.
        """
        values = self.values(name)
        if any(isinstance(value, Mapping) for value in values) and not any(
            isinstance(value, (bool, int, float, str)) for value in values
        ):
            return [isinstance(value, Mapping) for value in values]
        found: list[bool | None] = []
        for position, value in enumerate(values):
            if is_missing(value):
                found.append(None)
            elif isinstance(value, (bool, int, float, str)) and (value in _TRUE or value in _FALSE):
                found.append(value in _TRUE)
            else:
                raise self.refused(position, name, value, "true, false, 1 or 0")
        return found

    def refused(self, position: int, name: str, value: object, expected: str) -> ConfigError:
        """Return the error about the value of a row."""
        return ConfigError(
            f"{self.source}: record {position + 1:,}: {name} must be {expected}, got {json.dumps(value, default=str)}",
            code="experiment.bad_record",
            hint="correct the record, or filter it out of the log",
        )

    def units(self, name: str) -> Codes:
        """Return the number of each row's unit. Raise ConfigError that names the first row without one."""
        values = self.values(name)
        for position, value in enumerate(values):
            if is_missing(value):
                raise self.refused(position, name, value, "the id of a unit")
        return np.unique([str(value) for value in values], return_inverse=True)[1]


def read_files(paths: Sequence[Path]) -> ImpressionLog:
    """Read files: ``.csv`` with a heading, any other as JSON lines. Raise ConfigError that names file and line."""
    rows = [row for path in paths for row in _read(path)]
    return ImpressionLog(rows, ", ".join(map(str, paths)))


def of_topics(values: Iterable[bytes | None], topics: Sequence[str]) -> ImpressionLog:
    """Read the values of records: JSON objects, or the envelope of JsonConverter. Tombstones are left out."""
    rows = []
    for number, value in enumerate(values, 1):
        if value is None:
            continue
        row = _object(value, f"{', '.join(topics)}: record {number:,}")
        if row.keys() == {"schema", "payload"} and isinstance(row["payload"], dict):
            row = row["payload"]
        rows.append(row)
    return ImpressionLog(rows, ", ".join(topics))


def with_outcome(log: ImpressionLog, name: str) -> tuple[ImpressionLog, Floats, int]:
    """Return the impressions with a known outcome, the outcomes, and how many have none yet."""
    outcomes = log.outcomes(name)
    known = [position for position, outcome in enumerate(outcomes) if outcome is not None]
    if not known:
        raise ConfigError(
            f"{log.source} has no impression with a known {name}",
            code="experiment.empty_log",
            hint="analyse the log after the windows of its impressions have closed",
        )
    return log.only(known), np.array([float(bool(outcomes[p])) for p in known]), len(outcomes) - len(known)


def variable(log: ImpressionLog, name: str) -> Variable:
    """Return a column as levels: more than 20 different numbers as six ranges of equally many impressions, else each
    value. Values after the 200 most frequent ones are one level."""
    values = [None if is_missing(value) else value for value in log.values(name)]
    present = [value for value in values if value is not None]
    missing = len(values) - len(present)
    numbers = [_number(value) for value in present]
    distinct = len({str(value) for value in present})
    if distinct > _MOST_NUMBERS and all(number is not None for number in numbers):
        return _ranges(name, values, np.array(numbers, dtype=np.float64), missing, distinct)
    texts = [_MISSING if value is None else _text(value) for value in values]
    names, inverse, counts = np.unique(texts, return_inverse=True, return_counts=True)
    kept = sorted(np.argsort(-counts, kind="stable")[:_MOST_LEVELS].tolist())
    labels = [str(names[position]) for position in kept]
    if len(kept) < len(names):
        labels.append(_OTHER)
    code = np.full(len(names), len(kept), dtype=np.intp)
    code[kept] = np.arange(len(kept))
    return Variable(name, "category", code[inverse], tuple(labels), missing, distinct)


def is_missing(value: object) -> bool:
    """Return whether a value is null, NaN or an empty text."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _ranges(name: str, values: Sequence[Any], numbers: Floats, missing: int, distinct: int) -> Variable:
    edges = np.unique(np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1], method="inverted_cdf"))
    bounds = [f"{edge:.4g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in itertools.pairwise(bounds)]
    labels = [f"up to {bounds[0]}", *inner, f"over {bounds[-1]}"]
    codes = np.full(len(values), len(labels), dtype=np.intp)
    codes[[value is not None for value in values]] = np.searchsorted(edges, numbers, side="left")
    return Variable(name, "number", codes, (*labels, _MISSING) if missing else tuple(labels), missing, distinct)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)


def _value(row: Impression, name: str) -> Any:
    if name in row:
        return row[name]
    first, dot, rest = name.partition(".")
    inner = row.get(first)
    return _value(inner, rest) if dot and isinstance(inner, Mapping) else None


def _has(row: Impression, name: str) -> bool:
    if name in row:
        return True
    first, dot, rest = name.partition(".")
    inner = row.get(first)
    return bool(dot) and isinstance(inner, Mapping) and _has(inner, rest)


def _flat_names(row: Impression, prefix: str = "") -> Iterator[str]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat_names(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def _read(path: Path) -> Iterator[Impression]:
    try:
        with path.open(encoding="utf-8", newline="" if path.suffix == ".csv" else None) as file:
            if path.suffix == ".csv":
                yield from csv.DictReader(file)
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(line, f"{path}:{number}")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror or type(error).__name__}",
            code="experiment.file",
            hint="name a file of JSON lines or CSV, or a topic with --worker",
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(
            f"{path} is not readable: {error}", code="experiment.file", hint="write it as UTF-8 JSON lines or CSV"
        ) from error


def _object(text: str | bytes, place: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{place} is not JSON: {error}", code="experiment.file", hint="write one JSON object a line"
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(
            f"{place} is not a JSON object", code="experiment.file", hint="write one JSON object for each impression"
        )
    return found
