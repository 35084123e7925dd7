"""The lock file agrees with the script that writes it, and names no host."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from headrace.embedded.artifacts import LOCK_FILE, Jar, locked


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[3] / "scripts" / "lock_engines.py"
    spec = importlib.util.spec_from_file_location("lock_engines", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["kafka", "elasticsearch", "elasticsearch-9"])
def test_the_lock_file_has_the_versions_of_the_script(script: Any, name: Any) -> None:
    version, roots = script.ENGINES[name]

    assert locked(name).version == version
    assert set(roots) <= {jar.coordinate for jar in locked(name).jars}


@pytest.mark.parametrize("name", ["kafka", "elasticsearch", "elasticsearch-9"])
def test_each_jar_is_listed_once_with_size_and_checksum(name: Any) -> None:
    jars = locked(name).jars

    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) and jar.size > 0 for jar in jars)
    assert len({jar.path for jar in jars}) == len(jars)


def test_the_lock_file_names_no_host() -> None:
    assert "://" not in LOCK_FILE.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("coordinate", "path"),
    [
        ("org.example.deep:lib:1.2", "org/example/deep/lib/1.2/lib-1.2.jar"),
        ("org.example:lib:1.2:linux-x86_64", "org/example/lib/1.2/lib-1.2-linux-x86_64.jar"),
    ],
)
def test_a_coordinate_is_a_path_in_any_repository(coordinate: Any, path: Any) -> None:
    assert Jar(coordinate, 1, "").path == path
