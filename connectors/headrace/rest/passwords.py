"""Hashes of passwords and tokens.

Passwords are hashed with scrypt, which is slow and needs 16 MiB on purpose. Tokens are 256 random bits, which cannot be
guessed, so that a single SHA-256 protects them and every request can be checked at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

PASSWORD = "scrypt"
TOKEN = "token"
_N, _R, _P = 1 << 14, 8, 1
_LENGTH = 32  # bytes of a hash
_MAX_MEMORY = 1 << 26
_MOST_WORK = 1 << 20  # of N times r times p: an entry must not stop the worker by its parameters


def hash_password(password: str) -> str:
    """Return the credential of a users file for a password."""
    salt = secrets.token_bytes(16)
    return f"{PASSWORD}:{_N}:{_R}:{_P}:{salt.hex()}:{_scrypt(password, salt, _N, _R, _P).hex()}"


def no_password() -> str:
    """Return a credential that no password matches. Checking it takes as long as checking any other."""
    return f"{PASSWORD}:{_N}:{_R}:{_P}:{secrets.token_hex(16)}:{secrets.token_hex(_LENGTH)}"


def is_password(password: str, credential: str) -> bool:
    """Return whether the credential is of this password. Takes about 50 ms, always."""
    _, n, r, p, salt, expected = credential.split(":")
    if int(n) * int(r) * int(p) > _MOST_WORK:
        return False
    try:
        found = _scrypt(password, bytes.fromhex(salt), int(n), int(r), int(p))
    except ValueError:  # parameters that scrypt does not allow
        return False
    return hmac.compare_digest(found.hex(), expected)


def new_token() -> str:
    """Return a random token. It is shown once, and stored as :func:`hash_token` only."""
    return f"hr_{secrets.token_urlsafe(32)}"


def hash_token(token: str) -> str:
    """Return the credential of a users file for a token."""
    return f"{TOKEN}:{hashlib.sha256(token.encode()).hexdigest()}"


def is_token(token: str, credential: str) -> bool:
    """Return whether the credential is of this token, in constant time."""
    return hmac.compare_digest(hash_token(token).encode(), credential.encode())


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MAX_MEMORY, dklen=_LENGTH)
