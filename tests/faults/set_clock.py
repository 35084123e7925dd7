"""`headrace` with a SQL source whose clock a file sets: the clock of the machine is shared by all that runs on it.

    HEADRACE_TEST_CLOCK=FILE python set_clock.py run worker.yaml …

The file has the seconds by which the clock is ahead.
"""

import os
from datetime import datetime, timedelta
from pathlib import Path

from headrace.cli import main
from headrace_sources.sql.clock import utc_now
from headrace_sources.sql.task import SqlSourceTask
from headrace_sources.sql.tuning import Tuning

CLOCK = Path(os.environ["HEADRACE_TEST_CLOCK"])


def now() -> datetime:
    """Return the time by the clock of the file."""
    return utc_now() + timedelta(seconds=float(CLOCK.read_text(encoding="utf-8")))


if __name__ == "__main__":
    SqlSourceTask.tuning = Tuning(now=now)
    main()
