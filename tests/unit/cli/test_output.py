"""Terminal output of commands and of the worker's log contains no secrets and no foreign control characters."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
from rich.text import Text

from headrace.cli.output import err, out, print_error, print_json, print_table, redact_output
from headrace.errors import ConfigError, Finding, TaskError
from headrace.redaction import Redactor, unredacted

EVIL = "\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe\r"
HARMLESS = [r"\x1b[2J", r"\x9b31m", r"\u202egnp"]


def control_characters(text: str) -> set[str]:
    return {char for char in text if ord(char) in {*range(9), *range(11, 32), *range(127, 160), 0x202E}}


class TestControlCharacters:
    """Finding 12 of the security review: traces were printed with control characters."""

    def test_control_characters_are_removed_from_texts_and_tables(self, capsys: pytest.CaptureFixture[str]) -> None:
        out.print(Text(f"reason: {EVIL}", style="red"))
        err.print(f"hint: {EVIL}")
        print_table(("name", "reason"), [("a", EVIL)])
        print_error(TaskError(EVIL, hint=EVIL))
        print_error(ConfigError(findings=[Finding("a.b", EVIL, "k", EVIL)]))
        printed = capsys.readouterr()
        assert control_characters(printed.out + printed.err) == set()
        for text in HARMLESS:
            assert text in printed.out
            assert text in printed.err

    def test_control_characters_are_escaped_in_json(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_json({"trace": EVIL})
        printed = capsys.readouterr().out
        assert control_characters(printed) == set()
        assert json.loads(printed) == {"trace": EVIL}

    def test_line_breaks_and_tabs_are_kept(self, capsys: pytest.CaptureFixture[str]) -> None:
        out.print(Text("Traceback:\n\tline"), soft_wrap=True)
        assert capsys.readouterr().out.splitlines()[0] == "Traceback:"


def test_commands_print_no_secret_of_the_files_they_read(capsys: pytest.CaptureFixture[str]) -> None:
    """Finding 1 of the security review."""
    redact_output(Redactor({"s3cret-9": "${env:PASSWORD}"}))
    try:
        err.print("refused: s3cret-9")
        print_json({"a": "s3cret-9"})
    finally:
        redact_output(unredacted)
    printed = capsys.readouterr()
    assert printed.err == "refused: ${env:PASSWORD}\n"
    assert json.loads(printed.out) == {"a": "${env:PASSWORD}"}


LOGGING = """
import logging, sys, threading, warnings
import structlog
from headrace.cli.log_setup import configure_logging
from headrace.redaction import Redactor

configure_logging("DEBUG", sys.argv[1], Redactor({"s3cret-9": "${env:PASSWORD}"}))
log = structlog.stdlib.get_logger("headrace.test")
log.info("event", url="x://u:s3cret-9@h", escape="\\x1b[2J", items=["s3cret-9"])
logging.getLogger("sqlalchemy").warning("of a library: %s", "s3cret-9")
warnings.warn("s3cret-9")
try:
    raise RuntimeError("s3cret-9")
except RuntimeError:
    log.exception("failed")

def ends():
    raise RuntimeError("in a thread: s3cret-9")

thread = threading.Thread(target=ends, name="worker-7")
thread.start()
thread.join()
"""


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_line_of_the_log_has_a_secret(form: str) -> None:
    """Finding 1 of the security review: also of libraries, of warnings, and of threads that end with an exception."""
    run = subprocess.run([sys.executable, "-c", LOGGING, form], capture_output=True, text=True, check=True)
    assert "s3cret-9" not in run.stdout + run.stderr
    assert run.stderr.count("${env:PASSWORD}") >= 6
    assert "\x1b" not in run.stderr
    assert "worker-7" in run.stderr
    if form == "json":
        assert {json.loads(line)["level"] for line in run.stderr.splitlines()} >= {"info", "warning", "error"}


def test_logging_of_this_process_is_unchanged() -> None:
    assert not any(type(handler.formatter).__name__ == "_RedactingFormatter" for handler in logging.root.handlers)
