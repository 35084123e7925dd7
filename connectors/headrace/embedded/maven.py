"""The Maven repository to use: the environment's mirror, else the user's Maven mirror, else Maven Central."""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from xml.etree import ElementTree

from headrace.errors import InfrastructureError

MIRROR_VARIABLE = "HEADRACE_MAVEN_MIRROR"
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
# Values of mirrorOf that include Central (Maven's guide to mirror settings).
_INCLUDE_CENTRAL = {"central", "*", "external:*"}


@dataclass(frozen=True, slots=True)
class Repository:
    """A Maven repository: its address without trailing slash and credentials, and the header with the credentials."""

    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)


def repository() -> Repository:
    """Return the repository to fetch from.

    Raise InfrastructureError if the user's ``~/.m2/settings.xml`` cannot be read or its mirror names a variable that
    is not set.
    """
    if address := os.environ.get(MIRROR_VARIABLE, "").strip():
        return _repository(address)
    settings = Path.home() / ".m2" / "settings.xml"
    return (_mirror_of_user(settings) if settings.is_file() else None) or Repository(MAVEN_CENTRAL)


def local_repository() -> Path:
    """Return the folder in which Maven keeps its downloads. It need not exist."""
    return Path.home() / ".m2" / "repository"


def _repository(address: str, user: str | None = None, password: str | None = None) -> Repository:
    """Move credentials from the address into a header, so that no message shows them."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        # Not shown: it may contain a password.
        raise InfrastructureError(
            "the address of the Maven repository is not an http or https address",
            code="embedded.maven_mirror",
            hint=f"set https://host/path in {MIRROR_VARIABLE} or ~/.m2/settings.xml",
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
            hint=f"fix the file, or set the repository in {MIRROR_VARIABLE}",
        ) from error
    for mirror in root.iterfind("{*}mirrors/{*}mirror"):
        mirrored = {name.strip() for name in (mirror.findtext("{*}mirrorOf") or "").split(",")}
        address = (mirror.findtext("{*}url") or "").strip()
        blocked = (mirror.findtext("{*}blocked") or "").strip() == "true"
        if not address or blocked or "!central" in mirrored or not mirrored & _INCLUDE_CENTRAL:
            continue
        identity = mirror.findtext("{*}id")
        for server in root.iterfind("{*}servers/{*}server"):
            if server.findtext("{*}id") == identity and server.find("{*}username") is not None:
                user, password = server.findtext("{*}username") or "", server.findtext("{*}password") or ""
                return _repository(_expanded(address), _expanded(user), _expanded(password))
        return _repository(_expanded(address))
    return None


def _expanded(text: str) -> str:
    """Replace ``${env.NAME}`` as Maven does."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in os.environ:
            raise InfrastructureError(
                f"Maven's settings name the variable {name}, which is not set",
                code="embedded.maven_settings",
                hint=f"set {name}, or set the repository in {MIRROR_VARIABLE}",
            )
        return os.environ[name]

    return re.sub(r"\$\{env\.(\w+)\}", value, text)
