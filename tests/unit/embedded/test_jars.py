"""The cache contains only verified jars, for any failure of the network, the disk or earlier runs."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headrace.embedded.artifacts import Jar
from headrace.embedded.jars import cache_folder
from headrace.embedded.jars import fetch as fetch_jars
from headrace.errors import InfrastructureError

CONTENT = bytes(range(256)) * 4000
fetch = partial(fetch_jars, retry_backoff=0.01)


def test_jars_are_returned_in_the_requested_order(maven: Any) -> None:
    jars = [maven.publish(f"org.example:lib-{number}:1.{number}", CONTENT[number:]) for number in range(20)]

    files = fetch(jars)

    assert [file.read_bytes() for file in files] == [CONTENT[number:] for number in range(20)]
    assert files[3] == cache_folder() / "org/example/lib-3/1.3/lib-3-1.3.jar"


def test_a_jar_of_two_engines_is_downloaded_once(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)

    files = fetch([jar] * 5)

    assert files == [files[0]] * 5
    assert files[0].read_bytes() == CONTENT
    assert len(maven.requests) == 1


def test_cached_jars_are_not_requested_again(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    fetch([jar])
    asked = len(maven.requests)

    fetch([jar])

    assert len(maven.requests) == asked == 1


def test_only_missing_jars_are_downloaded(maven: Any) -> None:
    old, new = maven.publish("org.example:old:1", CONTENT), maven.publish("org.example:new:1", CONTENT[1:])
    fetch([old])

    fetch([old, new])

    assert [path for path, _ in maven.requests] == [old.path, new.path]


def test_a_truncated_download_is_resumed_where_it_ended(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    maven.breaks[jar.path] = [300_000]

    assert fetch([jar])[0].read_bytes() == CONTENT
    assert maven.requests == [(jar.path, None), (jar.path, "bytes=300000-")]


def test_a_download_of_an_earlier_run_is_resumed(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    maven.breaks[jar.path] = [100, 200, 300]
    with pytest.raises(InfrastructureError):
        fetch([jar])
    maven.requests.clear()

    assert fetch([jar])[0].read_bytes() == CONTENT
    assert maven.requests == [(jar.path, "bytes=300-")]


def test_without_range_requests_the_whole_jar_is_downloaded_again(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    maven.breaks[jar.path] = [1000]
    maven.knows_ranges = False

    assert fetch([jar])[0].read_bytes() == CONTENT


def test_a_damaged_partial_download_is_discarded(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    part = cache_folder() / (jar.path + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 5000)

    assert fetch([jar])[0].read_bytes() == CONTENT
    assert maven.requests == [(jar.path, "bytes=5000-"), (jar.path, None)]


@pytest.mark.parametrize("damaged", [b"x" * len(CONTENT), CONTENT[:-1], CONTENT + b"x", b""])
def test_a_damaged_jar_in_the_cache_is_fetched_again(maven: Any, damaged: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    file = cache_folder() / jar.path
    file.parent.mkdir(parents=True)
    file.write_bytes(damaged)

    assert fetch([jar])[0].read_bytes() == CONTENT


def test_damage_after_the_first_use_is_detected(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    [file] = fetch([jar])
    file.write_bytes(b"x" * len(CONTENT))
    os.utime(file, ns=(0, 0))

    assert fetch([jar])[0].read_bytes() == CONTENT


def test_content_that_differs_from_the_lock_file_is_refused_and_deleted(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    maven.files[jar.path] = b"x" * len(CONTENT)

    with pytest.raises(InfrastructureError, match=f"SHA-256 is .* the lock file says {jar.sha256}") as caught:
        fetch([jar])

    assert caught.value.code == "embedded.download"
    assert [file for file in cache_folder().rglob("*.jar*") if file.is_file()] == []


def test_requests_to_a_busy_repository_are_retried(maven: Any) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    maven.fails[jar.path] = [503, 429]

    assert fetch([jar])[0].read_bytes() == CONTENT


def test_a_request_for_a_missing_jar_is_not_retried(maven: Any) -> None:
    jar = Jar("org.example:absent:1", 10, "0" * 64)

    with pytest.raises(InfrastructureError, match="the repository answers 404"):
        fetch([jar])

    assert len(maven.requests) == 1


def test_without_a_network_one_message_says_what_to_do(maven: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound, but it does not listen
        monkeypatch.setenv("HEADRACE_MAVEN_MIRROR", f"http://127.0.0.1:{closed.getsockname()[1]}")
        jars = [Jar(f"org.example:lib-{number}:1", 10, "0" * 64) for number in range(20)]

        with pytest.raises(InfrastructureError) as caught:
            fetch(jars)

    assert caught.value.code == "embedded.download"
    assert caught.value.exit_code == 3
    assert "Connection refused" in caught.value.message
    for advice in ("connect to the network", "HEADRACE_MAVEN_MIRROR", "copy the cache folder"):
        assert advice in caught.value.hint


def test_a_full_cache_needs_no_repository(maven: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    fetch([jar])
    monkeypatch.setenv("HEADRACE_MAVEN_MIRROR", "http://127.0.0.1:1")

    assert fetch([jar])[0].read_bytes() == CONTENT


def test_a_cache_folder_that_cannot_be_created_is_named(
    maven: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADRACE_CACHE", str(tmp_path / "file"))

    with pytest.raises(InfrastructureError, match="cannot be used: Not a directory") as caught:
        fetch([maven.publish("org.example:lib:1", CONTENT)])

    assert caught.value.code == "embedded.cache"
    assert "HEADRACE_CACHE" in caught.value.hint


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Limit files to 100 kB, so that the system refuses writes as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_named(maven: Any) -> None:
    with pytest.raises(InfrastructureError, match=r"cache folder .* cannot be used: File too large") as caught:
        fetch([maven.publish("org.example:lib:1", CONTENT)])

    assert "free disk space" in caught.value.hint


def test_a_jar_in_the_local_maven_repository_is_copied(maven: Any, tmp_path: Path) -> None:
    jar = maven.publish("org.example:lib:1", CONTENT)
    file = tmp_path / "home/.m2/repository" / jar.path
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)

    assert fetch([jar])[0].read_bytes() == CONTENT
    assert maven.requests == []


def test_a_password_in_the_mirrors_address_is_sent_and_never_shown(
    maven: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_MAVEN_MIRROR", maven.url.replace("http://", "http://ada:s3cret@"))
    fetch([maven.publish("org.example:lib:1", CONTENT)])

    with pytest.raises(InfrastructureError) as caught:
        fetch([Jar("org.example:absent:1", 10, "0" * 64)])

    assert set(maven.authorizations) == {"Basic YWRhOnMzY3JldA=="}
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in capsys.readouterr().err
