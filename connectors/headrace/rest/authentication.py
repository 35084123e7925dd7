"""Finds out who sends a request: by password, token, client certificate, or a trusted proxy in front of the worker."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import secrets
import threading
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import anyio
import anyio.to_thread
import structlog
from starlette.requests import Request

from headrace.errors import (
    AuthenticationError,
    ConfigError,
    InfrastructureError,
    PermissionDeniedError,
    RetriableError,
)
from headrace.rest import passwords
from headrace.rest.access import UNRESTRICTED, Caller
from headrace.rest.limits import RepeatedLines
from headrace.rest.users_file import CERTIFICATE, PROXY, UserEntry, by_name, read_users

log = structlog.stdlib.get_logger(__name__)

CERTIFICATE_STATE = "client_certificate"
"""Key of the subject of the client's certificate in ``scope["state"]``."""
_CONCURRENT_CHECKS = 2  # of passwords: each takes a core for 50 ms
_MOST_WAITING = 16
_MOST_REMEMBERED = 1_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class TrustedProxy(NamedTuple):
    """A proxy that authenticates users and names them in a header, believed from ``networks`` only."""

    header: str
    networks: Sequence[Network]

    def trusts(self, address: str) -> bool:
        """Return whether requests from this address may name a user."""
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)


class Authenticator:
    """Finds the caller of a request. Without ``users`` every caller may do everything.

    The users file is read again when it has changed, so that rights can be withdrawn without a restart.
    """

    def __init__(self, users: Path | None = None, proxy: TrustedProxy | None = None) -> None:
        """Raise ConfigError when the users file cannot be used."""
        self._users = _UsersOnDisk(users) if users is not None else None
        self._proxy = proxy
        self._limiter: anyio.CapacityLimiter | None = None
        self._remembered = _CheckedPasswords()
        self._lines = RepeatedLines()
        self._no_password = passwords.no_password()

    async def caller(self, request: Request) -> Caller | None:
        """Return the caller; None without credentials.

        Raises AuthenticationError (wrong credentials), PermissionDeniedError (an authenticated name that is of no
        user), InfrastructureError (the users file cannot be read).
        """
        if self._users is None:
            return UNRESTRICTED
        entries = self._users.entries()
        address = request.client.host if request.client else ""
        try:
            return await self._identify(request, entries, address)
        except (AuthenticationError, PermissionDeniedError) as error:
            if (suppressed := self._lines.admit(error.code)) is not None:
                log.warning("rest.login_refused", code=error.code, client=address, suppressed=suppressed)
            raise

    async def _identify(self, request: Request, entries: Sequence[UserEntry], address: str) -> Caller | None:
        if self._proxy is not None and self._proxy.trusts(address):
            names = request.headers.getlist(self._proxy.header)
            if len(names) > 1:
                raise _wrong()
            if names:
                return _known(entries, names[0].strip(), PROXY, lambda entry: entry.kind == PROXY)
        credentials = request.headers.getlist("authorization")
        if len(credentials) > 1:
            raise _wrong()
        if credentials:
            scheme, _, rest = credentials[0].partition(" ")
            if scheme.lower() == "bearer":
                return _of_token(entries, rest.strip())
            if scheme.lower() == "basic":
                return await self._of_password(entries, *_decoded(rest.strip()))
            raise _wrong()
        subject = request.scope.get("state", {}).get(CERTIFICATE_STATE)
        if subject:
            wanted = f"{CERTIFICATE}:{subject}"
            return _known(entries, subject, CERTIFICATE, lambda entry: entry.credential == wanted, by_credential=True)
        return None

    async def _of_password(self, entries: Sequence[UserEntry], name: str, password: str) -> Caller:
        hashes = [entry for entry in by_name(entries, name) if entry.kind == passwords.PASSWORD]
        if (found := self._remembered.find(hashes, password)) is not None:
            return Caller(found.name, found.role, "password")
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(_CONCURRENT_CHECKS)
        if self._limiter.statistics().tasks_waiting >= _MOST_WAITING:
            raise RetriableError(
                "too many passwords are being checked", code="auth.too_many_attempts", hint="try again in a second"
            )
        # A name that does not exist takes the same time as one that does.
        for entry in hashes or [UserEntry(name, UNRESTRICTED.role, self._no_password)]:
            right = await anyio.to_thread.run_sync(
                passwords.is_password, password, entry.credential, limiter=self._limiter
            )
            if right and hashes:
                self._remembered.add(entry, password)
                return Caller(entry.name, entry.role, "password")
        raise _wrong()


class _CheckedPasswords:
    """Remembers which passwords were correct, as keyed hashes, so that each request need not take 50 ms."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: dict[bytes, None] = {}

    def find(self, entries: Iterable[UserEntry], password: str) -> UserEntry | None:
        return next((entry for entry in entries if self._hash(entry, password) in self._known), None)

    def add(self, entry: UserEntry, password: str) -> None:
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[self._hash(entry, password)] = None

    def _hash(self, entry: UserEntry, password: str) -> bytes:
        # With the credential: a changed password, or a removed user, is not remembered.
        return blake2b(f"{entry}\0{password}".encode(), key=self._key).digest()


class _UsersOnDisk:
    """The entries of the users file, read again when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._version = self._stat()
        self._entries = read_users(path)

    def entries(self) -> list[UserEntry]:
        """Raise InfrastructureError when the file cannot be used any more: nothing is allowed then."""
        with self._lock:
            try:
                version = self._stat()
                if version != self._version:
                    self._entries = read_users(self._path)
                    self._version = version
                    log.info("rest.users_read", file=str(self._path), entries=len(self._entries))
            except ConfigError as error:
                self._version = None  # read again with the next request
                raise InfrastructureError(
                    "the worker cannot read its users file, so that no user can log in",
                    code="auth.users_unreadable",
                    hint="see rest.users.file in the worker's file, and `headrace users list FILE`",
                ) from error
            return self._entries

    def _stat(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None  # reading it raises the reason
        return found.st_mtime_ns, found.st_ino, found.st_size


def _of_token(entries: Sequence[UserEntry], token: str) -> Caller:
    # All are compared, so that the time does not tell which one is similar.
    matching = [entry for entry in entries if entry.kind == passwords.TOKEN and _is_token(token, entry)]
    if not matching:
        raise _wrong()
    return Caller(matching[0].name, matching[0].role, "token")


def _is_token(token: str, entry: UserEntry) -> bool:
    return passwords.is_token(token, entry.credential)


def _known(
    entries: Sequence[UserEntry],
    name: str,
    method: str,
    accepts: Callable[[UserEntry], bool],
    *,
    by_credential: bool = False,
) -> Caller:
    found = next((entry for entry in entries if accepts(entry) and (by_credential or entry.name == name)), None)
    if found is None:
        raise PermissionDeniedError(
            f"{name[:200]!r} is not a user of this worker ({method})",
            code="auth.unknown_user",
            hint=f"an administrator of the worker adds users with `headrace users add FILE NAME --{method}`",
        )
    return Caller(found.name, found.role, method)


def _decoded(text: str) -> tuple[str, str]:
    try:
        name, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _wrong() from error
    if not colon:
        raise _wrong()
    return name, password


def _wrong() -> AuthenticationError:
    return AuthenticationError(
        "the credentials are wrong",
        code="auth.wrong_credentials",
        hint="check user and password, or the token, and rest.users.file in the worker's file",
    )
