"""Checks of a worker's environment: Python, Kafka client, disk, memory, ports, clocks."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import google_crc32c
import httpx

from headrace.broker.client_choice import choose
from headrace.errors import ConfigError, InfrastructureError
from headrace.files import ConfigFile
from headrace.rest.listeners import Listener, listen, parse_listeners
from headrace.settings import KafkaClient, WorkerSettings

State = Literal["ok", "warning", "error"]

_MEBIBYTE = 1 << 20
_LITTLE_DISK, _NO_DISK = 1024 * _MEBIBYTE, 50 * _MEBIBYTE
_LITTLE_MEMORY = 256 * _MEBIBYTE
_CLOCK_TOLERANCE = 5.0
"""Seconds; the header Date has whole seconds, and a request takes its time."""
_TIMEOUT = 5.0
_SECRETS = ("password", "secret", "token", "api.key", "jaas.config")


@dataclass(frozen=True)
class Diagnosis:
    """Result of one check. ``command``: what to run or to do; empty when no action is needed."""

    subject: str
    state: State
    text: str
    command: str = ""


def python() -> Diagnosis:
    """Return the Python that runs this."""
    return Diagnosis(
        "python", "ok", f"{platform.python_implementation()} {platform.python_version()}: {sys.executable}"
    )


def kafka_client(setting: KafkaClient) -> Iterator[Diagnosis]:
    """Yield which Kafka client a worker with this ``kafka.client`` uses, and what it costs."""
    subject = "kafka client"
    try:
        choice = choose(setting)
    except ConfigError as error:
        yield Diagnosis(subject, "error", error.findings[0].message, "pip install 'headrace[fast]'")
        return
    if choice.name == "confluent":
        yield Diagnosis(subject, "ok", f"{choice.title} ({choice.reason})")
        return
    text = f"{choice.title}: about twice the CPU time per record that librdkafka needs"
    yield Diagnosis(subject, "warning", text, "pip install 'headrace[fast]'")
    yield checksum(google_crc32c.implementation)


def checksum(implementation: str) -> Diagnosis:
    """Return whether kafka-python's checksums are computed in C."""
    if implementation == "c":
        return Diagnosis("crc32c", "ok", "checksums of kafka-python are computed in C")
    text = "checksums of kafka-python are computed in Python: encoding and reading a record take about 10 times the CPU"
    command = "pip install --force-reinstall --only-binary :all: google-crc32c"
    return Diagnosis("crc32c", "warning", text, command)


def storage(subject: str, file: Path, free: int | None = None) -> Diagnosis:
    """Return whether ``file`` can be written and its disk has space. ``free`` replaces the bytes that are available."""
    folder = file.absolute().parent
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not existing.is_dir():
        return Diagnosis(subject, "error", f"{existing} is not a folder", f"mv {existing} {existing}.old")
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        command = f"sudo chown {os.getuid()} {file}" if hasattr(os, "getuid") else f"allow this user to write {file}"
        return Diagnosis(subject, "error", f"{file} cannot be read and written by this user", command)
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        text = f"no file can be created in {existing}: {error.strerror}"
        return Diagnosis(subject, "error", text, f"ls -ld {existing}; df -h {existing}")
    available = shutil.disk_usage(existing).free if free is None else free
    text = f"{file}: {_size(available)} free"
    if available < _NO_DISK:
        return Diagnosis(subject, "error", f"{text}; positions cannot be stored on a full disk", f"df -h {existing}")
    return Diagnosis(subject, "warning" if available < _LITTLE_DISK else "ok", text,
                     f"df -h {existing}" if available < _LITTLE_DISK else "")  # fmt: skip


def memory(meminfo: Path = Path("/proc/meminfo"), source_buffer: int = 0) -> Diagnosis | None:
    """Return whether enough memory is available; None if the system does not report it."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    values = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if not values:
        return None
    text = f"{_size(values[0])} available; a source task buffers up to {_size(source_buffer)}"
    if values[0] < _LITTLE_MEMORY + source_buffer:
        return Diagnosis("memory", "warning", text, "free -m; or set a smaller source.buffer.bytes")
    return Diagnosis("memory", "ok", text)


def listeners(texts: Iterable[str], timeout: float = _TIMEOUT) -> Iterator[Diagnosis]:
    """Yield for each listener whether its port is free, or a worker answers there."""
    for listener in parse_listeners(list(texts)):
        yield _listener(listener, timeout)


def _listener(listener: Listener, timeout: float) -> Diagnosis:
    try:
        listen(listener).close()
    except InfrastructureError as error:
        version = _worker_version(listener, timeout)
        if version:
            return Diagnosis("rest api", "ok", f"a headrace worker answers at {listener} (Kafka Connect {version})")
        command = f"ss -ltnp 'sport = :{listener.port}'; or set another port in listeners"
        return Diagnosis("rest api", "error", error.message, command)
    return Diagnosis("rest api", "ok", f"{listener} is free")


def _worker_version(listener: Listener, timeout: float) -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listener.host, listener.host)
    try:
        # Without verification: nothing is sent, and the answer only says what listens there.
        scheme = "https" if listener.tls else "http"
        answer = httpx.get(f"{scheme}://{Listener(host, listener.port)}/", timeout=timeout, verify=False)
        found = answer.json()
    except (httpx.HTTPError, ValueError):
        return ""
    return str(found.get("version", "")) if isinstance(found, dict) and "kafka_cluster_id" in found else ""


def clocks(configurations: Iterable[Mapping[str, str]]) -> Iterator[Diagnosis]:
    """Yield the difference to the clocks of the HTTP systems in ``connection.url`` that send the header Date."""
    urls = {
        url.strip()
        for properties in configurations
        for url in properties.get("connection.url", "").split(",")
        if url.strip().startswith(("http://", "https://"))
    }
    for url in sorted(urls):
        try:
            # Without verification: nothing is sent, and only the clock is read. The connector verifies certificates.
            with httpx.Client(timeout=_TIMEOUT, verify=False) as client:
                date = client.head(url).headers.get("date", "")
        except httpx.HTTPError:
            continue  # the check of the connector reports it
        if (found := clock(urlsplit(url).netloc.rpartition("@")[2], date, time.time())) is not None:
            yield found


def clock(system: str, date: str, now: float) -> Diagnosis | None:
    """Return the difference between the header ``date`` of ``system`` and ``now``; None without such a header."""
    try:
        difference = now - parsedate_to_datetime(date).timestamp()
    except ValueError:
        return None
    if abs(difference) <= _CLOCK_TOLERANCE:
        return Diagnosis("clock", "ok", f"as at {system}")
    text = f"this machine is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} {system}"
    return Diagnosis("clock", "warning", text, "timedatectl status, here and on the other machine")


def secrets(file: ConfigFile) -> Iterator[Diagnosis]:
    """Yield a warning if other users can read a file with a literal password."""
    literal = [
        name
        for name, text in file.properties.items()
        if text.strip() and "${" not in text and (name.endswith(_SECRETS) or _has_password(text))
    ]
    if literal and Path(file.path).stat().st_mode & 0o044:
        text = f"{file.location_of(literal[0])}: every user of this machine can read the secret in '{literal[0]}'"
        yield Diagnosis("permissions", "warning", text, f"chmod 600 {file.path}; or write ${{env:NAME}} instead")


def _has_password(text: str) -> bool:
    try:
        return "://" in text and bool(urlsplit(text).password)
    except ValueError:
        return False


def worker_surroundings(settings: WorkerSettings) -> Iterator[Diagnosis]:
    """Yield the results of all checks that need the worker's settings."""
    yield from kafka_client(settings.kafka_client)
    if not settings.group_id:  # a worker of a group stores nothing on this machine
        yield storage("offsets", Path(settings.offsets_file))
    if settings.configs_file and not settings.group_id:
        yield storage("configurations", Path(settings.configs_file))
    if (found := memory(source_buffer=settings.source_buffer)) is not None:
        yield found
    yield from listeners([*settings.listeners, *(settings.admin_listeners or ())])


def _size(count: int) -> str:
    return f"{count / _MEBIBYTE / 1024:.1f} GiB" if count >= 1024 * _MEBIBYTE else f"{count / _MEBIBYTE:.0f} MiB"
