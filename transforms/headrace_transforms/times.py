"""Dates and times of Kafka Connect's data model as milliseconds, and back."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

from headrace_transforms.java_dates import DAY, JavaDateFormat

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()


def current_year() -> int:
    """Return the year, in UTC."""
    return datetime.now(UTC).year


TIME = JavaDateFormat("HH:mm:ss.SSS'Z'", current_year)
DATE = JavaDateFormat("yyyy-MM-dd", current_year)
TIMESTAMP = JavaDateFormat("yyyy-MM-dd'T'HH:mm:ss.SSS'Z'", current_year)


def milliseconds_of(value: date | time) -> int:
    """Return milliseconds since 1970, of a time since midnight. Finer parts are cut off, a missing zone is UTC."""
    if isinstance(value, datetime):
        passed = (value if value.tzinfo is not None else value.replace(tzinfo=UTC)) - _EPOCH
        return passed.days * DAY + passed.seconds * 1000 + passed.microseconds // 1000
    if isinstance(value, time):
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 1000 + value.microsecond // 1000
    return (value.toordinal() - _EPOCH_DAY) * DAY


def date_of(moment: int) -> date:
    """Return the day of a moment. Raise ValueError outside the years 1 to 9999."""
    try:
        return date.fromordinal(moment // DAY + _EPOCH_DAY)
    except (ValueError, OverflowError):
        raise ValueError("the moment is outside the years 1 to 9999") from None


def time_of(moment: int) -> time:
    """Return the time of day of a moment."""
    return (_EPOCH + timedelta(milliseconds=moment % DAY)).time()


def timestamp_of(moment: int) -> datetime:
    """Return a moment. Raise ValueError outside the years 1 to 9999."""
    try:
        return _EPOCH + timedelta(milliseconds=moment)
    except OverflowError:
        raise ValueError("the moment is outside the years 1 to 9999") from None
