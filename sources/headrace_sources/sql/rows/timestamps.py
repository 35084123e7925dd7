"""Timestamps of cursor columns: conversion between moments and what the database stores.

Two rules prevent lost rows. A stored position is never *later* than its row, so that at worst rows repeat. The upper
bound of a poll is rounded down to the column's resolution: rows that are stored to the second are read only when that
second is over and no further row can have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


class TimestampCodec(Protocol):
    """Converts the timestamps of one cursor column."""

    def to_moment(self, value: Any) -> datetime:
        """Return an aware datetime in UTC. Raise ValueError for a value that is not a timestamp."""
        ...

    def resume(self, value: Any) -> Any:
        """Return what to compare the column with, to continue after a row that holds ``value``."""
        ...

    def to_stored(self, moment: datetime) -> Any:
        """Return what to compare the column with, to continue after ``moment``; never later than the stored value."""
        ...

    def bound(self, moment: datetime) -> Any:
        """Return :meth:`to_stored`, rounded down to the column's resolution."""
        ...


def floor(moment: datetime, resolution: timedelta) -> datetime:
    """Return the last multiple of ``resolution`` (a part of a day) that is not after ``moment``."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // resolution * resolution


def resolution_of(digits: int | None) -> timedelta:
    """Return the resolution of timestamps with this many digits after the second; None = microseconds."""
    return MICROSECOND if digits is None or digits >= 6 else timedelta(microseconds=10 ** (6 - digits))


@dataclass(frozen=True)
class MomentCodec:
    """A column with a zone: drivers take aware datetimes, and return them or text, in UTC if it names no zone."""

    resolution: timedelta = MICROSECOND

    def to_moment(self, value: Any) -> datetime:
        moment = _datetime(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    def resume(self, value: Any) -> Any:
        return self.to_moment(value)

    def to_stored(self, moment: datetime) -> Any:
        return moment

    def bound(self, moment: datetime) -> Any:
        return floor(moment, self.resolution)


@dataclass(frozen=True)
class LocalCodec:
    """A column without a zone: drivers return and take naive datetimes in ``zone``."""

    zone: tzinfo
    resolution: timedelta = MICROSECOND

    def to_moment(self, value: Any) -> datetime:
        naive = _datetime(value)
        moment = naive.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self.to_stored(moment) > naive:
            # The value does not exist in the zone (clocks went forward over it): the earlier reading.
            moment = naive.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return moment

    def resume(self, value: Any) -> Any:
        return _datetime(value)

    def to_stored(self, moment: datetime) -> Any:
        return moment.astimezone(self.zone).replace(tzinfo=None, fold=0)

    def bound(self, moment: datetime) -> Any:
        return floor(self.to_stored(moment), self.resolution)


def _datetime(value: Any) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    raise ValueError(f"{value!r} is not a timestamp")


def to_json(moment: datetime) -> dict[str, int]:
    """Return a position as the JDBC connector stores it: milliseconds, and the second's fraction in nanoseconds."""
    seconds = (moment - _EPOCH) // SECOND
    return {
        "timestamp": seconds * 1000 + moment.microsecond // 1000,
        "timestamp_nanos": moment.microsecond * 1000,
    }


def from_json(millis: int, nanos: int | None) -> datetime:
    """Return the moment of a position. Nanoseconds are rounded down to microseconds, which at worst repeats rows."""
    if nanos is None:
        return _EPOCH + timedelta(milliseconds=millis)
    return _EPOCH + timedelta(seconds=millis // 1000, microseconds=nanos // 1000)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
