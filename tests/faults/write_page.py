"""Writes docs/operations/faults.md: ``python -m tests.faults.write_page``."""

from tests.faults.table import PAGE, page

if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
