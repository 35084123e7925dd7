"""The page of faults is generated from the table that the fault tests use."""

from pathlib import Path

from tests.faults.table import LIVE, PAGE, ROWS, page, scores_of


def test_the_page_is_current() -> None:
    """The scores on it are compared by the test that observes them."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(scores_of(text)), "run: python -m tests.faults.write_page"


def test_every_row_has_a_score() -> None:
    assert scores_of(PAGE.read_text(encoding="utf-8")).keys() == {row.number for row in ROWS}
    assert all((row.score is None) == (row.proof == LIVE) for row in ROWS)


def test_a_row_that_was_not_observed_has_no_score() -> None:
    assert scores_of(page({})).keys() == {row.number for row in ROWS if row.proof != LIVE}
    assert scores_of(page({"1": 2}))["1"] == 2


def test_every_row_names_an_existing_test_and_has_expected_texts() -> None:
    root = Path(__file__).parents[3]
    for row in ROWS:
        assert (root / row.proof).is_file(), row.number
        assert all((*row.says, *row.todo)), row.number
    assert len({row.number for row in ROWS}) == len(ROWS)
