"""No row that is committed after later rows were read is lost; without the gap-free cursor each one is.

Every scene ends with a marker row. When the marker has been read, the reader must have read all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from headrace_sources.sql.dialects import Dialect, MakeDialect, dialect_for
from headrace_sources.sql.dialects.mysql import MySql
from headrace_sources.sql.tuning import Tuning
from tests.integration.sql.late import Reading, Scene, scene
from tests.sql_tasks import tuned

MODES = ["incrementing", "timestamp", "timestamp+incrementing"]
STAMPED = MODES[1:]


@pytest.fixture(params=["postgres", "mariadb"])
def late(request: pytest.FixtureRequest) -> Iterator[Scene]:
    fixture = {"postgres": "database", "mariadb": "mariadb_database"}[request.param]
    with scene(request.getfixturevalue(fixture)) as made:
        yield made


@pytest.fixture
def reading(late: Scene) -> Iterator[Callable[..., Reading]]:
    # Almost no lookback, which would read rows committed within it: these scenes test the watermark.
    tuning = Tuning(least_lookback=timedelta(milliseconds=1), blocked_after=0.0)
    made: list[Reading] = []

    def start(mode: str, make_dialect: MakeDialect = dialect_for, **properties: str) -> Reading:
        settings = {
            "connection.url": late.engine.url.render_as_string(hide_password=False),
            "table.whitelist": "late",
            "mode": mode,
            "topic.prefix": "",
            "pk.mode": "primary_key",
            "poll.interval.ms": "1",
        }
        if "timestamp" in mode:
            settings["timestamp.column.name"] = "updated_at"
        keys = settings | {name.replace("_", "."): value for name, value in properties.items()}
        made.append(Reading(keys, connector=tuned(tuning, make_dialect)))
        made[-1].start()
        return made[-1]

    yield start
    for item in made:
        item.stop()


Scenery = Callable[[Scene, Reading], None]


def insert(late: Scene, reading: Reading) -> None:
    """Insert in two transactions: the first to write is the last to commit."""
    early, other = late.writer(), late.writer()
    early.insert("late")
    other.insert("early")
    other.commit()
    assert "early" in reading.round()
    early.commit()


def update(late: Scene, reading: Reading) -> None:
    late.run("INSERT INTO late (id, name) VALUES (1, 'one'), (2, 'two')")
    reading.round()
    early, other = late.writer(), late.writer()
    early.update(1, "late")
    other.update(2, "early")
    other.commit()
    assert "early" in reading.round()
    early.commit()


def long_transaction(late: Scene, reading: Reading) -> None:
    """Keep a transaction open: only the stored position waits for it, also across restarts."""
    early = late.writer()
    early.insert("late")
    for number in range(5):
        other = late.writer()
        other.insert(f"row {number}")
        other.commit()
        assert f"row {number}" in reading.round()
        if number == 2:
            reading.start()
    early.commit()
    reading.start()


def id_out_of_order(late: Scene, reading: Reading) -> None:
    """Commit the smaller id of two rows with one timestamp after the greater one."""
    early, other = late.writer(), late.writer()
    moment = early.now()
    early.insert("late", id=1_000, updated_at=moment)
    other.insert("early", id=2_000, updated_at=moment)
    other.commit()
    assert "early" in reading.round()
    early.commit()


def equal_timestamps(late: Scene, reading: Reading) -> None:
    """Insert five rows with one timestamp, read in batches of two; three of them are committed late."""
    early, other = late.writer(), late.writer()
    moment = early.now()
    for number in range(3):
        early.insert(f"late {number}", updated_at=moment)
    for number in range(2):
        other.insert(f"early {number}", updated_at=moment)
    other.commit()
    assert "early 1" in reading.round()
    early.commit()


LOSSES: list[tuple[str, Scenery]] = [
    *((mode, insert) for mode in MODES),
    *((mode, update) for mode in STAMPED),
    *((mode, long_transaction) for mode in MODES),
    *((mode, id_out_of_order) for mode in MODES),
    *((mode, equal_timestamps) for mode in MODES),
]
NAMES = [f"{scenery.__name__}-{mode}" for mode, scenery in LOSSES]


def mark(late: Scene, reading: Reading) -> None:
    """Write a marker row after all others, and read until it is returned."""
    last = late.writer()
    last.insert("marker", id=9_000)
    last.commit()
    for _ in range(20):
        if "marker" in reading.round():
            break
    reading.round()
    assert "marker" in reading.names


@pytest.mark.parametrize(("mode", "scenery"), LOSSES, ids=NAMES)
def test_a_late_commit_is_not_lost(late: Scene, reading: Callable[..., Reading], mode: str, scenery: Scenery) -> None:
    reader = reading(mode, batch_max_rows="2")
    scenery(late, reader)
    mark(late, reader)

    assert late.names() - set(reader.names) == set()
    # A restart sends rows after the stored position again; no other row is sent twice.
    restarted = scenery is long_transaction
    assert reader.repeated == 0 or restarted, reader.names


@pytest.mark.parametrize(("mode", "scenery"), LOSSES, ids=NAMES)
def test_a_late_commit_is_lost_without_the_gap_free_cursor(
    late: Scene, reading: Callable[..., Reading], mode: str, scenery: Scenery
) -> None:
    """Every other poller behaves so; the test also shows that the one above can fail."""
    reader = reading(mode, batch_max_rows="2", cursor_gap_free="off")
    scenery(late, reader)
    mark(late, reader)

    lost = late.names() - set(reader.names)
    assert lost, "nothing was lost: the scene does not show what it says"
    assert all("late" in name for name in lost)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gap_free", ["auto", "off"])
def test_rolled_back_rows_are_never_sent_and_delay_nothing(
    late: Scene, reading: Callable[..., Reading], mode: str, gap_free: str
) -> None:
    reader = reading(mode, cursor_gap_free=gap_free)
    early, other = late.writer(), late.writer()
    early.insert("never")
    other.insert("kept")
    other.commit()
    reader.round()
    early.rollback()
    mark(late, reader)
    reader.start()

    assert reader.names == ["kept", "marker"]
    assert reader.round() == []


@pytest.mark.parametrize("mode", STAMPED)
@pytest.mark.parametrize("gap_free", ["auto", "off"])
def test_with_a_clock_set_back_rows_are_lost_only_without_the_gap_free_cursor(
    late: Scene, reading: Callable[..., Reading], mode: str, gap_free: str
) -> None:
    """By an hour, for the reader and for the timestamps of the writers."""
    behind = timedelta(0)

    def set_back(*arguments: Any) -> Dialect:
        kind = type(dialect_for(*arguments))

        class SetBackDialect(kind):  # type: ignore[misc, valid-type]
            def now(self, connection: Any) -> Any:
                return super().now(connection) - behind

        options = {} if kind is MySql else {"iso": False}
        return SetBackDialect(arguments[1], **options)

    reader = reading(mode, set_back, cursor_gap_free=gap_free)
    writer = late.writer()
    writer.insert("before", updated_at=writer.now())
    writer.commit()
    assert reader.round() == ["before"]
    behind = timedelta(hours=1)
    writer.insert("late", updated_at=writer.now() - behind)
    writer.commit()
    for _ in range(3):
        reader.round()

    assert reader.names == (["before", "late"] if gap_free == "auto" else ["before"])


@pytest.mark.parametrize("mode", MODES)
def test_the_status_names_the_transaction_that_the_position_waits_for(
    late: Scene, reading: Callable[..., Reading], mode: str
) -> None:
    reader = reading(mode)
    early, other = late.writer(), late.writer()
    early.insert("late")
    word = "pg_backend_pid()" if late.engine.dialect.name == "postgresql" else "connection_id()"
    process = early.connection.execute(text(f"SELECT {word}")).scalar_one()
    other.insert("early")
    other.commit()
    reader.round()
    said = reader.status_reasons.current

    assert said is not None
    assert str(process) in said
    assert "a restart would send 1 rows again" in said
    early.commit()
    reader.round()
    reader.round()
    assert reader.status_reasons.current is None
