"""Writes docs/operations/faults.md after a change of the table: ``python -m tests.faults.write_page``.

The scores stay as they are; ``tests/system/test_fault_table.py`` observes and writes them.
"""

from tests.faults.table import PAGE, page, scores_of

if __name__ == "__main__":
    PAGE.write_text(page(scores_of(PAGE.read_text(encoding="utf-8"))), encoding="utf-8")
