"""The compacted log keeps appended entries after any end of the process, reports damage, and has one writer."""

from __future__ import annotations

import os
import resource
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError, InfrastructureError, RetriableError
from headrace.stores import FileLog, MemoryLog

KEYS = st.sampled_from(["a", "b", 'c"\n', "ключ"])
VALUES = st.none() | st.dictionaries(
    st.text(max_size=3), st.integers(-(2**53), 2**53) | st.text(max_size=5), max_size=3
)
APPENDS = st.lists(st.dictionaries(KEYS, VALUES, max_size=3), max_size=12)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder in memory, where there is one: these tests sync thousands of times, and a disk takes milliseconds."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def expected(appends: list[dict[str, object]]) -> dict[str, object]:
    values: dict[str, object] = {}
    for entries in appends:
        values.update(entries)
    return {key: value for key, value in values.items() if value is not None}


@given(APPENDS, APPENDS)
def test_a_reopened_file_has_all_appended_entries(
    folder: Path, first: list[dict[str, object]], second: list[dict[str, object]]
) -> None:
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    memory = MemoryLog()
    for appends in (first, second):
        log = FileLog(path)
        for entries in appends:
            log.append(entries)
            memory.append(entries)
        assert log.read() == memory.read()
        log.close()
    again = FileLog(path)
    assert again.read() == memory.read() == expected([*first, *second])
    again.close()


@given(APPENDS.filter(any), st.data())
def test_a_crash_at_any_byte_loses_only_the_unfinished_append(
    folder: Path, appends: list[dict[str, object]], data: st.DataObject
) -> None:
    path = folder / f"{uuid.uuid4().hex}.jsonl"
    log = FileLog(path)
    sizes = [0]
    for entries in appends:
        log.append(entries)
        sizes.append(path.stat().st_size)
    log.close()
    cut = data.draw(st.integers(0, sizes[-1]))
    os.truncate(path, cut)
    survived = FileLog(path)
    whole = max(number for number, size in enumerate(sizes) if size <= cut)
    # Entries of one append are separate lines: a prefix of the interrupted append may be in the file.
    torn = list(appends[whole].items()) if whole < len(appends) else []
    states = [expected([*appends[:whole], dict(torn[:count])]) for count in range(len(torn) + 1)]
    assert survived.read() in states
    survived.append({"after": {"n": 1}})
    survived.close()
    again = FileLog(path)
    assert again.read()["after"] == {"n": 1}
    again.close()


def test_a_damaged_line_is_an_error_that_names_its_location(tmp_path: Path) -> None:
    path = tmp_path / "offsets.jsonl"
    path.write_text('["a", {"n": 1}]\nrubbish\n["a", {"n": 2}]\n')
    with pytest.raises(ConfigError) as caught:
        FileLog(path)
    assert caught.value.code == "store.damaged"
    assert f"{path}:2" in caught.value.message


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xac\xed\x00\x05sr\x00\x11java.util.HashMap\x05", "store.foreign"),
        (b"\xac\xed\x00\x05sr\n\x00\x11java.util.HashMap\x05", "store.foreign"),
        (b"some other file", "store.damaged"),
        (b'["a", {"n": 1}]\nsome other text', "store.damaged"),
    ],
)
def test_connect_rest_4_a_file_of_another_program_is_named_and_not_changed(
    tmp_path: Path, content: bytes, code: str
) -> None:
    """Such as the offset file of a JVM worker, which was emptied if it had no line end."""
    path = tmp_path / "offsets"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        FileLog(path)
    assert caught.value.code == code
    assert path.read_bytes() == content


def test_two_workers_cannot_share_a_file(tmp_path: Path) -> None:
    first = FileLog(tmp_path / "offsets.jsonl")
    with pytest.raises(InfrastructureError) as caught:
        FileLog(tmp_path / "offsets.jsonl")
    assert caught.value.code == "store.locked"
    first.close()
    FileLog(tmp_path / "offsets.jsonl").close()


def test_a_folder_that_cannot_be_created_is_an_environment_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError) as caught:
        FileLog(tmp_path / "file" / "offsets.jsonl")
    assert caught.value.code == "store.unusable"


def test_a_full_disk_is_retriable_and_leaves_no_partial_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "offsets.jsonl"
    log = FileLog(path)
    log.append({"a": {"n": 1}})

    def full(file: int, content: bytes, at: int) -> int:
        written = real(file, content[: len(content) // 2], at)
        raise OSError(28, "No space left on device", written)

    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(RetriableError, match="No space left"):
            log.append({"a": {"n": 2}, "b": {"n": 2}})
    assert log.read() == {"a": {"n": 1}}
    log.append({"b": {"n": 3}})
    log.close()
    again = FileLog(path)
    assert again.read() == {"a": {"n": 1}, "b": {"n": 3}}
    again.close()


def test_an_open_log_is_compacted(tmp_path: Path) -> None:
    path = tmp_path / "offsets.jsonl"
    log = FileLog(path, compact_minimum=10)
    for number in range(100):
        log.append({"a": {"n": number}, "b": {"n": -number}})
        assert path.read_bytes().count(b"\n") <= 12
        assert log.read() == {"a": {"n": number}, "b": {"n": -number}}
    with pytest.raises(InfrastructureError):  # the new file is locked as the old one was
        FileLog(path)
    log.close()
    again = FileLog(path)
    assert again.read() == {"a": {"n": 99}, "b": {"n": -99}}
    again.close()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A disk on which no file of this process grows beyond ``size``: the write that crosses it ends there."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_an_append_that_fits_only_in_part_on_a_full_disk_is_an_error_and_can_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "offsets.jsonl"
    log = FileLog(path)
    log.append({"padding": "x" * 1_000_000})  # other files of this process are smaller, and are not limited
    with largest_file(path.stat().st_size + 10), pytest.raises(RetriableError, match=r"cannot write .*File too large"):
        log.append({"a": {"n": 1}, "b": {"n": 2}})
    assert set(log.read()) == {"padding"}
    log.append({"a": {"n": 3}})
    log.close()

    again = FileLog(path)
    assert set(again.read()) == {"padding", "a"}
    assert again.read()["a"] == {"n": 3}
    again.close()
