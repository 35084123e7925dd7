"""The container image installs packages with hashes only, and runs without privileges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, int]:
    """Return how many hashes each package of a lock file has."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    return {entry.partition("==")[0].partition("[")[0]: entry.count("--hash=sha256:") for entry in entries}


def required() -> set[str]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    texts = [*project["dependencies"], *extras["fast"], *extras["mysql"], *extras["postgres"]]
    return {match[0] for text in texts if (match := re.match(r"[\w-]+", text))}


def test_every_package_of_the_image_is_locked_with_hashes() -> None:
    packages = locked("requirements.lock")
    assert required() - packages.keys() == set(), "run `make lock`"
    assert min(packages.values()) > 0
    assert min(locked("requirements-build.lock").values()) > 0


def test_the_image_installs_only_locked_packages() -> None:
    installs = re.findall(r"pip install ([^\\\n]*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in options or "--no-deps" in options for options in installs)
    assert "--no-build-isolation" in DOCKERFILE


def test_the_worker_runs_as_an_unprivileged_user_on_a_read_only_file_system() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["headrace"]
    assert re.search(r"^USER headrace$", DOCKERFILE, re.M)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
