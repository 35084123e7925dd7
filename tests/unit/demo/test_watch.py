from demo.progress import Progress
from demo.tables import CONVERSIONS, ENRICHED, IMPRESSIONS, OFFERS
from demo.watch import FirstLoad, arrived, enriched


def test_the_first_load_shows_its_rate() -> None:
    assert str(FirstLoad(20_160, 4.0)).startswith("20,160 rows in 4.0 s (5,040 rows/s)")


def test_rows_of_an_earlier_run_have_no_rate() -> None:
    assert "rows/s" not in str(FirstLoad(0, 0.8))


def test_the_load_is_complete_when_every_table_is() -> None:
    rows = {"offers": 80, "impressions": 20_000, "conversions": 80}
    documents = {OFFERS: 80, IMPRESSIONS: 20_003, CONVERSIONS: 80}

    assert arrived(Progress(0.0, {}, documents, True), rows)
    assert not arrived(Progress(0.0, {}, documents | {CONVERSIONS: 79}, True), rows)


def test_enriched_impressions_arrive_after_the_rows() -> None:
    rows = {"offers": 80, "impressions": 20_000, "conversions": 80}
    assert enriched(Progress(0.0, {}, {ENRICHED: 20_001}, True), rows)
    assert not enriched(Progress(0.0, {}, {ENRICHED: 19_999}, True), rows)
