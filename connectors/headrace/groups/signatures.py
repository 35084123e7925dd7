"""Signatures of the requests that workers send to each other (KIP-507): an HMAC of the exact bytes of the body."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from headrace.errors import CommandError, PermissionDeniedError, RetriableError
from headrace.stores.config_fold import SessionKey

AUTHORIZATION, ALGORITHM = "X-Connect-Authorization", "X-Connect-Request-Signature-Algorithm"
_DIGESTS = {"HmacSHA256": hashlib.sha256}


def signed_headers(key: SessionKey, body: bytes) -> dict[str, str]:
    """Return the headers that sign a request."""
    return {AUTHORIZATION: base64.b64encode(_signature(key, body)).decode(), ALGORITHM: key.algorithm}


def require_signature(key: SessionKey | None, headers: Mapping[str, str], body: bytes) -> None:
    """Raise unless the request was signed with the group's key; the texts and status codes are Kafka Connect's."""
    given, algorithm = headers.get(AUTHORIZATION), headers.get(ALGORITHM)
    if given is None or algorithm is None:
        missing = AUTHORIZATION if given is None else ALGORITHM
        raise CommandError(f"Internal request missing required signature: header {missing}", code="group.unsigned")
    if algorithm not in _DIGESTS:
        text = (
            f"This worker does not support the '{algorithm}' key signing algorithm used by other workers. This worker "
            f"is currently configured to use: {', '.join(_DIGESTS)}"
        )
        raise CommandError(text, code="group.unsigned", hint="set inter.worker.signature.algorithm of the others")
    if key is None:
        raise RetriableError("This worker has not read a session key of its group yet", code="group.no_key")
    try:
        sent = base64.b64decode(given, validate=True)
    except binascii.Error:
        sent = b""
    if not hmac.compare_digest(sent, _signature(key, body)):
        raise PermissionDeniedError("Internal request contained invalid signature.", code="group.bad_signature")


def _signature(key: SessionKey, body: bytes) -> bytes:
    return hmac.digest(key.key, body, _DIGESTS.get(key.algorithm, hashlib.sha256))
