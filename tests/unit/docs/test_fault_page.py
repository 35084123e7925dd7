"""The page of faults is generated from the table that the tests prove."""

from pathlib import Path

from tests.faults.table import PAGE, ROWS, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.faults.write_page"


def test_every_row_names_a_test_that_exists_and_words() -> None:
    root = Path(__file__).parents[3]
    for row in ROWS:
        assert (root / row.proof).is_file(), row.number
        assert all((*row.says, *row.todo)), row.number
    assert len({row.number for row in ROWS}) == len(ROWS)
