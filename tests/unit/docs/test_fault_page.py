"""The page of faults is generated from the table that the fault test uses."""

from tests.faults.table import PAGE, ROWS, page, scores_of


def test_the_page_is_current() -> None:
    """The scores on it are compared by the test that observes them."""
    text = PAGE.read_text(encoding="utf-8")
    assert text == page(scores_of(text)), "run: python -m tests.faults.write_page"


def test_every_row_has_a_score_that_was_observed() -> None:
    assert scores_of(PAGE.read_text(encoding="utf-8")).keys() == {row.number for row in ROWS}
    assert scores_of(page({})) == {}
    assert scores_of(page({"1": 2})) == {"1": 2}


def test_every_row_has_a_number_of_its_own_and_expected_texts() -> None:
    assert all((*row.says, *row.todo) for row in ROWS)
    assert all(all((*row.says, *row.todo)) for row in ROWS)
    assert len({row.number for row in ROWS}) == len(ROWS)
