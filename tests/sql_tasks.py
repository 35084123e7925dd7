"""SQL source tasks for tests: with other durations, sizes and dialects, and access to their comparison."""

from __future__ import annotations

from headrace.testing.driver import SourceDriver
from headrace_sources.sql import SqlSourceConnector
from headrace_sources.sql.deletes.comparison import KeyComparison
from headrace_sources.sql.dialects import MakeDialect, dialect_for
from headrace_sources.sql.scheduler import ScheduledTable
from headrace_sources.sql.task import SqlSourceTask
from headrace_sources.sql.tuning import Tuning


def tuned(tuning: Tuning, make_dialect: MakeDialect = dialect_for) -> type[SqlSourceConnector]:
    """Return the connector with tasks that have this ``tuning`` and these dialects."""
    task = type("TunedTask", (SqlSourceTask,), {"tuning": tuning, "make_dialect": staticmethod(make_dialect)})
    return type("TunedConnector", (SqlSourceConnector,), {"task_class": task})


def comparison_of(driver: SourceDriver) -> KeyComparison:
    """Return the only comparison of a driver's task."""
    assert isinstance(driver.task, SqlSourceTask)
    [comparison] = driver.task.comparisons
    return comparison


def table_of(driver: SourceDriver) -> ScheduledTable:
    """Return the only table of a driver's task."""
    assert isinstance(driver.task, SqlSourceTask)
    [table] = driver.task.tables
    return table
