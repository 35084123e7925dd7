"""Requests between workers are signed as Kafka Connect's workers sign them."""

from __future__ import annotations

import pytest

from headrace.errors import CommandError, HeadraceError, PermissionDeniedError, RetriableError
from headrace.groups.signatures import ALGORITHM, AUTHORIZATION, require_signature, signed_headers
from headrace.stores.config_fold import SessionKey

KEY = SessionKey(b"key", "HmacSHA256", 0)
BODY = b"The quick brown fox jumps over the lazy dog"
# The published test vector of HMAC-SHA256 for this key and text.
SIGNATURE = "97yD9DBThCSxMpjmqm+xQ+9NWaFJRhdZl0edvC0aPNg="


def test_a_signature_is_the_hmac_of_the_body() -> None:
    assert signed_headers(KEY, BODY) == {AUTHORIZATION: SIGNATURE, ALGORITHM: "HmacSHA256"}
    require_signature(KEY, signed_headers(KEY, BODY), BODY)


@pytest.mark.parametrize(
    ("key", "headers", "body", "error"),
    [
        (KEY, {}, BODY, CommandError),
        (KEY, {AUTHORIZATION: SIGNATURE}, BODY, CommandError),
        (KEY, {AUTHORIZATION: SIGNATURE, ALGORITHM: "HmacSHA1"}, BODY, CommandError),
        (None, {AUTHORIZATION: SIGNATURE, ALGORITHM: "HmacSHA256"}, BODY, RetriableError),
        (KEY, {AUTHORIZATION: SIGNATURE, ALGORITHM: "HmacSHA256"}, BODY + b" ", PermissionDeniedError),
        (KEY, {AUTHORIZATION: "not base64", ALGORITHM: "HmacSHA256"}, BODY, PermissionDeniedError),
    ],
)
def test_other_requests_are_refused(
    key: SessionKey | None, headers: dict[str, str], body: bytes, error: type[HeadraceError]
) -> None:
    with pytest.raises(error):
        require_signature(key, headers, body)
