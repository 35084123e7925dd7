from collections.abc import Callable

import pytest
from rich.console import Console

from demo.prober import Freshness, Prober
from demo.progress import ConnectorProgress, Progress
from demo.tables import IMPRESSIONS, INDICES
from demo.view import View, seconds


@pytest.fixture
def view() -> View:
    return View(Prober(lambda write: None))


@pytest.fixture
def progress() -> Callable[..., Progress]:
    def make(at: float, written: int, *, answered: bool = True, reason: str = "") -> Progress:
        source = ConnectorProgress(
            "RUNNING", reason, {"source_record_poll_total": written, "source_record_write_total": written}
        )
        sink = ConnectorProgress("RUNNING", "", {"sink_record_read_total": written, "sink_record_send_total": written})
        documents = dict.fromkeys(INDICES, 0) | {IMPRESSIONS: written}
        ages = {"batches": 5, "p50": 0.4, "p99": 1.25}
        task = {"hops": {"read": {"p50": 0.02}, "write": {"p50": 0.31}}, "age": ages, "data_as_of": 4_102_444_800_000}
        freshness = {"elasticsearch": {"name": "elasticsearch", "tasks": [task]}}
        return Progress(at, {"impressions": source, "elasticsearch": sink}, documents, answered, freshness)

    return make


def test_the_rate_is_that_of_the_last_seconds(view: View, progress: Callable[..., Progress]) -> None:
    for at in range(20):
        view.add(progress(float(at), 100 * at if at < 10 else 1000))
    assert view.rows()[1].rate == 0

    view.add(progress(20.0, 1500))
    assert view.rows()[1].rate == pytest.approx(100)


def test_there_is_no_rate_after_one_progress(view: View, progress: Callable[..., Progress]) -> None:
    view.add(progress(0.0, 500))

    assert view.rows()[1].rate == 0


def test_restarted_counters_give_no_negative_rate(view: View, progress: Callable[..., Progress]) -> None:
    view.add(progress(0.0, 500))
    view.add(progress(1.0, 3))

    assert view.rows()[1].rate == 0


def test_the_table_shows_counts_states_and_reasons(view: View, progress: Callable[..., Progress]) -> None:
    view.add(progress(0.0, 20_000, reason="the broker does not answer"))
    console = Console(width=80, record=True, quiet=True)
    with console.capture() as captured:
        console.quiet = False
        console.print(view.table())
    text = captured.get()

    assert "elasticsearch" in text  # nothing is cut off in a terminal of the usual width

    assert "read 0.02 s → write 0.31 s" in text
    assert "0.0 s ago" in text
    assert "1.25 s" in text
    assert "20,000" in text
    assert "RUNNING" in text
    assert "impressions: the broker does not answer" in text
    assert "UNASSIGNED" in text  # offers, without any progress


def test_a_worker_that_does_not_respond_is_reported(view: View, progress: Callable[..., Progress]) -> None:
    view.add(progress(0.0, 1, answered=False))
    console = Console(width=120)
    with console.capture() as captured:
        console.print(view.table())

    assert "does not answer" in captured.get()


def test_the_line_shows_the_same_figures(view: View, progress: Callable[..., Progress]) -> None:
    view.add(progress(0.0, 20_000, reason="waits"))

    line = view.line()

    assert "in Kafka 20,000" in line
    assert "impressions, elasticsearch RUNNING" in line
    assert "impressions: waits" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("freshness", "text"),
    [
        (Freshness(), "–"),
        (Freshness(waiting=0.4), "–"),
        (Freshness(waiting=9.0), "> 9 s"),
        (Freshness(0.84, 1.0, 20, 0.2), "0.84 s"),
        (Freshness(0.84, 1.0, 20, 1.5), "0.84 s"),
        (Freshness(0.84, 1.0, 20, 12.3), "> 12 s"),  # a stall shows before the median does
    ],
)
def test_freshness_is_the_median_or_a_longer_wait(freshness: Freshness, text: str) -> None:
    assert seconds(freshness) == text
