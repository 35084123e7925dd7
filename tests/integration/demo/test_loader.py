from datetime import UTC, datetime
from decimal import Decimal

import pytest

from demo import loader
from demo.compare import read_rows
from demo.dataset import Dataset, Impression, Offer
from demo.tables import CONVERSIONS, IMPRESSIONS, OFFERS
from demo.trickle import Trickle, Write
from headrace.testing.waiting import eventually


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Three offers, six impressions, two of them clicked."""
    offers = tuple(Offer(number, number + 0.1, {"item_feature_1": "aa"}) for number in range(3))
    impressions = tuple(
        Impression(
            policy=("random", "bts")[number % 2],
            offer_id=number % 3,
            position=1 + number % 3,
            propensity=Decimal("0.012500"),
            user={"user_feature_0": "u"},
            affinities={"1": 2.0} if number == 4 else {},
            shown_at=datetime(2019, 11, 24, 0, 0, number, 762830, UTC),
            clicked=number in (1, 4),
        )
        for number in range(6)
    )
    return Dataset(offers, impressions)


def test_rows_are_loaded_unchanged(database: str, data: Dataset) -> None:
    assert loader.load(database, data) == {"offers": 3, "impressions": 6, "conversions": 2}

    impression = read_rows(database, IMPRESSIONS)["5"]
    assert impression["shown_at"] == datetime(2019, 11, 24, 0, 0, 4, 762830, UTC)
    assert impression["propensity"] == Decimal("0.012500")
    assert impression["affinities"] == {"1": 2.0}
    conversion = read_rows(database, CONVERSIONS)["2"]
    assert (conversion["impression_id"], conversion["policy"], conversion["offer_id"]) == (5, "random", 1)
    assert {id_: row["clicks"] for id_, row in read_rows(database, OFFERS).items()} == {"0": 0, "1": 2, "2": 0}


def test_loading_again_changes_nothing(database: str, data: Dataset) -> None:
    loader.load(database, data)
    before = read_rows(database, OFFERS)

    assert loader.load(database, data) == {"offers": 3, "impressions": 6, "conversions": 2}
    assert read_rows(database, OFFERS) == before


def test_empty_tables_are_filled(database: str, data: Dataset) -> None:
    with loader.connect(database) as connection:
        connection.execute(loader.SCHEMA.read_bytes())

    assert loader.load(database, data)["impressions"] == 6


def test_generated_ids_follow_the_loaded_ones(database: str, data: Dataset) -> None:
    loader.load(database, data)

    with loader.connect(database) as connection:
        row = connection.execute(
            "INSERT INTO impressions (policy, offer_id, position, propensity, user_features, affinities, shown_at) "
            "VALUES ('bts', 1, 1, 0.5, '{}', '{}', now()) RETURNING impression_id"
        ).fetchone()
    assert row == (7,)


def test_each_update_sets_updated_at(database: str, data: Dataset) -> None:
    loader.load(database, data)
    before = read_rows(database, OFFERS)["1"]["updated_at"]

    with loader.connect(database) as connection:
        connection.execute("UPDATE offers SET payout = 2 WHERE offer_id = 1")

    assert read_rows(database, OFFERS)["1"]["updated_at"] > before


def test_the_trickle_reports_exactly_its_writes(database: str, data: Dataset) -> None:
    loader.load(database, data)
    before = {table: read_rows(database, table) for table in (OFFERS, IMPRESSIONS, CONVERSIONS)}
    told: list[Write] = []
    trickle = Trickle(database, data.impressions, told.append)
    with loader.connect(database) as connection:
        for _ in range(60):
            trickle.step(connection)

    after = {table: read_rows(database, table) for table in before}
    for table, rows in after.items():
        changed = {id_ for id_, row in rows.items() if before[table].get(id_) != row}
        assert changed
        assert changed == {str(write.id) for write in told if write.table is table}
    last = {write.id: write.updated_at for write in told if write.table is OFFERS}
    assert last == {id_: after[OFFERS][str(id_)]["updated_at"] for id_ in last}
    assert trickle.writes == len(told)


def test_a_trickle_without_a_database_fails_with_the_reason(database: str, data: Dataset) -> None:
    trickle = Trickle(database + "_missing", data.impressions, lambda write: None, rate=1000)
    trickle.start()
    eventually(lambda: trickle.error is not None)

    assert "does not exist" in str(trickle.error)
    trickle.stop()
