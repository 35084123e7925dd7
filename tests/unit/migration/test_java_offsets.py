"""Offset files of JVM standalone workers are read and imported; nothing else in them is."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.errors import ConfigError, HeadraceError
from headrace.migration.java_offsets import read_java_offsets
from headrace.stores.log import FileLog
from tests.golden.connect_group.cases import OFFSETS, recorded

BY_NAME = {case.case["id"]: bytes.fromhex(case.out) for case in recorded("offsets")}
FILE = BY_NAME["offsets"]


def run(*arguments: object, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(result.exception, HeadraceError):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    return result.stdout


def test_a_file_that_a_jvm_has_written_is_read() -> None:
    wanted = {key.encode(): None if value is None else value.encode() for key, value in OFFSETS}
    assert read_java_offsets(FILE, "connect.offsets") == wanted
    assert read_java_offsets(BY_NAME["no-offsets"], "connect.offsets") == {}
    assert read_java_offsets(b"", "connect.offsets") == {}


@given(st.integers(0, len(FILE) - 1))
def test_a_file_that_ends_early_is_refused(length: int) -> None:
    if length:
        with pytest.raises(ConfigError, match=r"is not an offset file of a standalone worker"):
            read_java_offsets(FILE[:length], "connect.offsets")


@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_other_offsets_or_an_error_and_nothing_else(place: int, change: int) -> None:
    changed = bytearray(FILE)
    changed[place] ^= change
    with contextlib.suppress(ConfigError):
        found = read_java_offsets(bytes(changed), "connect.offsets")
        assert len(found) <= len(OFFSETS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (FILE.replace(b"java.util.HashMap", b"java.util.HashSet"), r"the class java\.util\.HashSet"),
        (b"[]\n", "the beginning of a Java object is missing"),
        (FILE + b"x", "1 bytes follow the map"),
    ],
)
def test_other_objects_are_refused_by_name(data: bytes, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_java_offsets(data, "connect.offsets")


def test_the_command_shows_a_file_and_imports_it_once(tmp_path: Path) -> None:
    source, target = tmp_path / "connect.offsets", tmp_path / "offsets.jsonl"
    source.write_bytes(FILE)
    shown = run("migrate", "--offsets-file", source)
    assert '{"protocol":"1","table":"public.orders"} {"incrementing":42}' in shown
    assert not target.exists()
    first = json.loads(run("migrate", "--offsets-file", source, "--into", target, "--json"))
    assert first["written"] == 3
    assert sorted(first["offsets"]) == ["files", "orders"]
    again = json.loads(run("migrate", "--offsets-file", source, "--into", target, "--json"))
    assert again["written"] == 0
    log = FileLog(target)
    assert log.get('["files",{"filename":"/tmp/ä.txt"}]') == {"position": 165}
    log.close()
    assert source.read_bytes() == FILE


def test_an_import_does_not_replace_a_newer_offset(tmp_path: Path) -> None:
    source, target = tmp_path / "connect.offsets", tmp_path / "offsets.jsonl"
    source.write_bytes(FILE)
    log = FileLog(target)
    log.append({'["files",{"filename":"/tmp/ä.txt"}]': {"position": 200}})
    log.close()
    before = target.read_bytes()
    with pytest.raises(HeadraceError) as caught:
        run("migrate", "--offsets-file", source, "--into", target)
    assert caught.value.code == "migrate.offsets_differ"
    assert target.read_bytes() == before
