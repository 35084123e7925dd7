"""Log events at a terminal."""

from headrace.cli.log_lines import TerminalRenderer

REASON = "the database at 10.1.2.3:5432 cannot be reached: connection refused by the server, which may not be running"
EVENT = {
    "event": "waiting",
    "level": "warning",
    "logger": "headrace.task",
    "timestamp": "2026-11-30T09:28:32Z",
    "task": "orders-0",
    "code": "sql.unreachable",
    "reason": REASON,
    "hint": "is it running?",
}


def test_each_sentence_has_its_own_line_and_no_word_is_broken() -> None:
    for width in (80, 120):
        lines = TerminalRenderer(lambda width=width: width, colours=False)(None, "", dict(EVENT)).splitlines()  # type: ignore[misc]
        assert lines[0] == "09:28:32 warning waiting task=orders-0 code=sql.unreachable"
        assert lines[-1] == "    → is it running?"
        assert " ".join(line.strip() for line in lines[1:-1]) == REASON
        assert max(map(len, lines)) <= width


def test_an_event_without_fields_is_one_line() -> None:
    render = TerminalRenderer(lambda: 80, colours=True)
    assert render(None, "", {"event": "worker started", "level": "info", "timestamp": "2026-11-30T09:28:32Z"}) == (
        "09:28:32 info worker started"
    )


def test_a_trace_is_printed_as_it_is() -> None:
    trace = "Traceback (most recent call last):\n  File x, line 1\nValueError: y" + "z" * 200
    assert TerminalRenderer(lambda: 80, colours=False)(None, "", {"event": "e", "exception": trace}).endswith(trace)
