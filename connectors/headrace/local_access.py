"""What connectors may use of the worker's machine: files that their keys name, and Python functions.

As with placeholders, configurations from files that an operator names on the command line may use everything as long as
there is no list, and configurations that come over REST only what a list names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.config import LocalUse
from headrace.errors import Finding
from headrace.settings import WorkerSettings
from headrace.small_files import is_within

_LISTS = {"file": "connector.files.allowed.paths", "function": "connector.functions.allowed"}
_LONGEST_SHOWN = 100


@dataclass(frozen=True)
class LocalAccess:
    """The lists of a worker; None: it has no such list."""

    files: Sequence[Path] | None = None
    """Resolved paths of files, and of folders with all their contents."""
    functions: Sequence[str] | None = None
    """``module:function``, or modules and packages with all their contents."""

    @classmethod
    def of(cls, worker: WorkerSettings) -> LocalAccess:
        paths = worker.allowed_files
        files = None if paths is None else tuple(Path(path).resolve() for path in paths if path)
        return cls(files, worker.allowed_functions)

    def refusals(self, uses: Iterable[LocalUse], *, trusted: bool) -> Iterator[Finding]:
        """Yield a finding for each use that is not allowed. ``trusted``: they are from a file of an operator."""
        for use in uses:
            allowed = self._allows(use)
            if allowed or (allowed is None and trusted):
                continue
            name = use.name if len(use.name) <= _LONGEST_SHOWN else f"{use.name[:_LONGEST_SHOWN]}…"
            text, hint = f"'{use.key}' may not use {name}", "name the connector's file when the worker is started"
            if use.kind == "privilege":
                text += ": configurations that come over REST may not use it"
                hint = f"remove it, or {hint}"
            else:
                text = f"'{use.key}' may not use the {use.kind} {name}"
                listed = _LISTS[use.kind]
                include = f"set {listed} in the worker's file so that it includes this one"
                if allowed is None:
                    text += f": the worker has no list of {use.kind}s that configurations may use that come over REST"
                    hint = f"{include}, or {hint}"
                else:
                    text += f": the worker's {listed} does not allow it"
                    hint = include
            yield Finding("config.not_allowed", text, use.key, hint)

    def _allows(self, use: LocalUse) -> bool | None:
        """Return what the list says; None without a list."""
        if use.kind == "file":
            return None if self.files is None else is_within(use.name, self.files)
        if use.kind == "function":
            return None if self.functions is None else any(_contains(item, use.name) for item in self.functions)
        return None


NO_LISTS = LocalAccess()


def _contains(listed: str, function: str) -> bool:
    module = function.partition(":")[0]
    return bool(listed) and (listed in (function, module) or module.startswith(f"{listed}."))
