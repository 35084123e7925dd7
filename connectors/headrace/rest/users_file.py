"""The file of users: names, roles, and hashes of their passwords and tokens.

One entry per line: name, role, credential, separated by blanks. A user may have several lines. ``headrace users``
writes the file::

    # name       role      credential
    alice        admin     scrypt:16384:8:1:9f2c…:51ab…
    prometheus   viewer    token:2c26b46b…
    deploy       operator  certificate:CN=deploy,O=Acme
    bob          viewer    proxy
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from headrace.errors import ConfigError, Finding
from headrace.rest.access import Role
from headrace.rest.passwords import PASSWORD, TOKEN

CERTIFICATE = "certificate"
PROXY = "proxy"
KEY = "rest.users.file"
_MOST_BYTES = 1 << 20
_NAME = re.compile(r"[^\s:#][^\s:]{0,254}")
_CREDENTIAL = re.compile(
    rf"{PASSWORD}:\d+:\d+:\d+:[0-9a-f]+:[0-9a-f]+|{TOKEN}:[0-9a-f]{{64}}|{CERTIFICATE}:\S.*|{PROXY}"
)


class UserEntry(NamedTuple):
    """One line. ``credential`` is a hash, ``certificate:SUBJECT``, or ``proxy``: the trusted proxy names the user."""

    name: str
    role: Role
    credential: str

    @property
    def kind(self) -> str:
        return self.credential.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.name} {self.role.word} {self.credential}"


def parse_users(text: str, path: str) -> list[UserEntry]:
    """Return the entries. Raise ConfigError with a finding for each line that is wrong; none repeats a hash."""
    entries: list[UserEntry] = []
    findings: list[Finding] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        wrong, entry = _parse(line)
        others = [] if entry is None else [other for other in by_name(entries, entry.name) if other.role != entry.role]
        if others:
            wrong = f"{others[0].name} has the role {others[0].role.word} in an earlier line"
        if wrong or entry is None:
            text = f"{path}:{number}: not an entry of a users file: {wrong}"
            findings.append(Finding("auth.invalid_users_file", text, KEY, "write entries with `headrace users add`"))
        else:
            entries.append(entry)
    if findings:
        raise ConfigError(findings=findings)
    return entries


def _parse(line: str) -> tuple[str, UserEntry | None]:
    fields = line.split(maxsplit=2)
    if len(fields) != 3:
        return "it needs a name, a role and a credential", None
    name, role, credential = fields
    if role.upper() not in Role.__members__:
        return f"there is no role {role}; roles are {', '.join(item.word for item in Role)}", None
    if not _NAME.fullmatch(name):
        return "a name contains no blanks and no colons, and does not begin with #", None
    credential = credential.strip()
    if not _CREDENTIAL.fullmatch(credential):
        return "the credential is neither a hash of a password or token, nor certificate:SUBJECT, nor proxy", None
    return "", UserEntry(name, Role[role.upper()], credential)


def read_users(path: Path) -> list[UserEntry]:
    """Read the file. Raise ConfigError (``auth.users_file_missing``, ``auth.invalid_users_file``)."""
    try:
        with path.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise _unreadable(path, f"it has more than {_MOST_BYTES} bytes")
        return parse_users(content.decode(), str(path))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is not UTF-8") from error


def write_users(path: Path, lines: Sequence[str]) -> None:
    """Replace the file, readable by its owner only. Raise ConfigError. It is complete at every moment."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as opened:
                opened.write("".join(f"{line}\n" for line in lines))
                opened.flush()
                os.fsync(opened.fileno())
            if path.exists():
                present = path.stat()
                if os.geteuid() == 0:
                    os.chown(temporary, present.st_uid, present.st_gid)  # the worker must still be able to read it
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        text = f"cannot write the users file {path}: {error.strerror or error}"
        raise ConfigError(text, code="auth.users_file_not_written", hint="check the folder and its rights") from error


def by_name(entries: Iterable[UserEntry], name: str) -> list[UserEntry]:
    """Return the entries of one user."""
    return [entry for entry in entries if entry.name == name]


def _unreadable(path: Path, why: str) -> ConfigError:
    finding = Finding(
        "auth.users_file_missing",
        f"the users file {path} cannot be read: {why}",
        KEY,
        f"create it with `headrace users add {path} NAME --role admin`",
    )
    return ConfigError(findings=[finding])
