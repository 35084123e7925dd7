"""Timestamps of cursor columns: moments to what the database stores, and back.

Two rules keep rows from being lost. A position that is read back is never *later* than the row it was taken from (so
that at worst rows repeat). The upper bound of a poll is cut down to the column's resolution: rows that a database
stores to the second are read only when that second is over, and no row can join it any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Protocol

MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)


class TimestampCodec(Protocol):
    """Of one cursor column."""

    def to_moment(self, value: Any) -> datetime:
        """An aware datetime in UTC. Raises ValueError for what is not a timestamp."""
        ...

    def resume(self, value: Any) -> Any:
        """What to compare the column with to go on right behind a row that holds ``value``."""
        ...

    def to_stored(self, moment: datetime) -> Any:
        """What to compare the column with to go on behind ``moment``; never later than what was stored."""
        ...

    def bound(self, moment: datetime) -> Any:
        """As :meth:`to_stored`, cut down to the column's resolution."""
        ...


def floor(moment: datetime, resolution: timedelta) -> datetime:
    """The last multiple of ``resolution`` (a part of a day) that is not after ``moment``."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (moment - midnight) // resolution * resolution


def resolution_of(digits: int | None) -> timedelta:
    """Of timestamps with so many digits of the second's fraction; None = microseconds."""
    return MICROSECOND if digits is None or digits >= 6 else timedelta(microseconds=10 ** (6 - digits))


@dataclass(frozen=True)
class MomentCodec:
    """A column with a zone: drivers take aware datetimes, and give them or text (in UTC, if it names no zone)."""

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
    """A column without a zone: drivers give and take naive datetimes, which mean ``zone``."""

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
    """As the JDBC connector stores it: milliseconds, and the whole fraction of the second in nanoseconds."""
    seconds = (moment - _EPOCH) // SECOND
    return {
        "timestamp": seconds * 1000 + moment.microsecond // 1000,
        "timestamp_nanos": moment.microsecond * 1000,
    }


def from_json(millis: int, nanos: int | None) -> datetime:
    """Back. Nanoseconds below a microsecond are cut off, which repeats rows at worst."""
    if nanos is None:
        return _EPOCH + timedelta(milliseconds=millis)
    return _EPOCH + timedelta(seconds=millis // 1000, microseconds=nanos // 1000)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
