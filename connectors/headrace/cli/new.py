"""``headrace new``: writes the package of a new connector, with its tests."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from enum import StrEnum
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from headrace.cli.output import err
from headrace.errors import ConfigError

app = typer.Typer(
    name="new",
    help="Write a new package, such as a connector's.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_SUFFIX = ".template"


class ConnectorType(StrEnum):
    """The two types of connectors."""

    SOURCE = "source"
    SINK = "sink"


@app.callback()
def root() -> None:
    """Keep ``connector`` a command of its own although it is the only one."""


@app.command()
def connector(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Short name in lower case, such as `weather`.")],
    kind: Annotated[
        ConnectorType, typer.Option("--type", "-t", help="What the connector does.")
    ] = ConnectorType.SOURCE,
    directory: Annotated[
        Path | None, typer.Option("--directory", "-d", metavar="DIR", help="Where to write; default: headrace-NAME.")
    ] = None,
) -> None:
    """Write a package with a working source or sink, its tests, a CI workflow and a README.

    headrace new connector weather --type source
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' cannot name a package",
            code="cli.bad_name",
            hint="use lower-case letters and digits, joined by hyphens, for example weather-station",
        )
    folder = directory if directory is not None else Path(f"headrace-{name.replace('_', '-')}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} exists already", code="cli.exists", hint="choose another directory by --directory")
    try:
        write_connector(name, kind, folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{folder} cannot be written: {reason}", code="cli.output", hint="choose another directory"
        ) from error
    err.print(f"wrote {folder}; next: cd {folder} && pip install --editable '.[dev]' && pytest", markup=False)


def write_connector(name: str, kind: ConnectorType, folder: Path) -> None:
    """Write the files of the package into ``folder``. Raise OSError."""
    words = re.split("[-_]", name)
    replacements = {
        "name": "-".join(words),
        "Name": "".join(map(str.capitalize, words)),
        "type": kind.value,
        "Type": kind.value.capitalize(),
        "distribution": f"headrace-{'-'.join(words)}",
        "package": f"headrace_{'_'.join(words)}",
        "headrace_version": importlib.metadata.version("headrace"),
    }
    templates = files("headrace.cli") / "templates" / "connector"
    for part in ("common", kind.value):
        for place, template in _templates(templates / part, PurePosixPath()):
            text = template.read_text(encoding="utf-8")
            for token, value in replacements.items():
                text = text.replace(f"<<{token}>>", value)
            names = [replacements["package"] if step == "package" else step for step in place.parts]
            path = folder.joinpath(*names)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


def _templates(folder: Traversable, place: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for item in folder.iterdir():
        if item.is_dir():
            yield from _templates(item, place / item.name)
        elif item.name.endswith(_SUFFIX):
            yield place / item.name.removesuffix(_SUFFIX), item
