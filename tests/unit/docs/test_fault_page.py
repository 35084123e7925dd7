"""The page of faults is generated from the table that the fault tests use."""

from pathlib import Path

from tests.faults.table import PAGE, ROWS, page


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: python -m tests.faults.write_page"


def test_every_row_names_an_existing_test_and_has_expected_texts() -> None:
    root = Path(__file__).parents[3]
    for row in ROWS:
        assert (root / row.proof).is_file(), row.number
        assert all((*row.says, *row.todo)), row.number
    assert len({row.number for row in ROWS}) == len(ROWS)
