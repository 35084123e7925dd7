"""Where jars come from: the environment's mirror, else the user's Maven mirror, else Maven Central itself."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree

from headrace.embedded.extra import maven_central
from headrace.errors import InfrastructureError

MIRROR_VARIABLE = "HEADRACE_MAVEN_MIRROR"
# Maven's own names for "everything that Central would answer" (its guide on mirror settings).
_STANDS_FOR_CENTRAL = {"central", "*", "external:*"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A Maven repository: its address without a trailing slash or credentials, and the header that logs in."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def repository() -> Repository:
    """The repository to fetch from.

    Raise InfrastructureError if the user's ``~/.m2/settings.xml`` cannot be read or its mirror names a variable that
    is not set, or if the extra ``embedded`` is not installed.
    """
    if address := os.environ.get(MIRROR_VARIABLE, "").strip():
        return _repository(address)
    settings = Path.home() / ".m2" / "settings.xml"
    return (_mirror_of_user(settings) if settings.is_file() else None) or Repository(maven_central())


def local_repository() -> Path:
    """Where Maven keeps what it fetched itself. It need not exist."""
    return Path.home() / ".m2" / "repository"


def _repository(address: str, user: str | None = None, password: str | None = None) -> Repository:
    """Credentials move from the address into a header, so that no message can show them."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # Not repeated: it may hold a password.
        raise InfrastructureError(
            "the Maven repository that was named is not an http or https address",
            code="embedded.maven_mirror",
            hint=f"look at {MIRROR_VARIABLE} and ~/.m2/settings.xml: https://host/path",
        )
    user, password = user or parts.username, password or parts.password
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    if user is None:
        return Repository(url)
    token = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return Repository(url, {"Authorization": f"Basic {token}"})


def _mirror_of_user(settings: Path) -> Repository | None:
    try:
        root = ElementTree.parse(settings).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise InfrastructureError(
            f"{settings} cannot be read: {error}",
            code="embedded.maven_settings",
            hint=f"mend it, or name the repository in {MIRROR_VARIABLE}",
        ) from error
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        stands_for = {name.strip() for name in (mirror.findtext("{*}mirrorOf") or "").split(",")}
        address = (mirror.findtext("{*}url") or "").strip()
        blocked = (mirror.findtext("{*}blocked") or "").strip() == "true"
        if not address or blocked or "!central" in stands_for or not stands_for & _STANDS_FOR_CENTRAL:
            continue
        identity = mirror.findtext("{*}id")
        for server in root.iterfind("{*}servers/{*}server"):
            if server.findtext("{*}id") == identity and server.find("{*}username") is not None:
                user, password = server.findtext("{*}username") or "", server.findtext("{*}password") or ""
                return _repository(_expanded(address), _expanded(user), _expanded(password))
        return _repository(_expanded(address))
    return None


def _expanded(text: str) -> str:
    """``${env.NAME}`` replaced, as Maven does it."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise InfrastructureError(
                f"Maven's settings name the variable {name}, which is not set",
                code="embedded.maven_settings",
                hint=f"set {name}, or name the repository in {MIRROR_VARIABLE}",
            )
        return os.environ[name]

    return re.sub(r"\$\{env\.(\w+)\}", value, text)
