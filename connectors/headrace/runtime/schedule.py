"""Schedules: fixed intervals and cron expressions. The only module that imports APScheduler."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from apscheduler.triggers.cron import CronTrigger
from pydantic import TypeAdapter, ValidationError

from headrace.config import Duration
from headrace.errors import ConfigError
from headrace.plugin import Schedule

_DURATION: TypeAdapter[int] = TypeAdapter(Duration)
_NEVER = datetime.max.replace(tzinfo=UTC)
"""A date that keeps a task running and idle."""


def schedule(text: str) -> Schedule:
    """Parse an interval (``5000``, ``5s``) or a cron expression of five fields in UTC. Raise ConfigError."""
    try:
        return Every(timedelta(milliseconds=_DURATION.validate_python(text)))
    except OverflowError:
        return Every(timedelta.max)
    except ValidationError:
        pass  # not a duration, so it must be a cron expression
    try:
        return Cron(CronTrigger.from_crontab(text, timezone=UTC))
    except ValueError as error:
        raise ConfigError(
            f"'{text}' is neither a duration nor a cron expression: {error}",
            code="config.invalid_value",
            hint="write 30s, 5m, or five fields such as '0 3 * * *' (every day at 03:00 UTC)",
        ) from error


@dataclass(frozen=True)
class Every:
    """A fixed interval."""

    pause: timedelta

    def next_after(self, moment: datetime) -> datetime:
        return moment + self.pause if self.pause < _NEVER - moment else _NEVER


@dataclass(frozen=True)
class Cron:
    """A cron expression."""

    trigger: CronTrigger

    def next_after(self, moment: datetime) -> datetime:
        # The trigger returns a time at or after its argument; here it must be after.
        due = self.trigger.get_next_fire_time(None, moment + timedelta(microseconds=1))
        # None: the expression matches no later time (31 February).
        return due if due is not None else _NEVER
