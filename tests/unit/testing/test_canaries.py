"""The search for secrets in the outputs of system tests finds a secret in every form in which a text can contain it."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.engines import canaries

SECRETS = {
    "database": canaries.DATABASE_PASSWORD,
    "kafka": canaries.KAFKA_PASSWORD,
    "tls key": canaries.TLS_KEY_PASSWORD,
    "api key": canaries.API_KEY,
    "rest token": canaries.REST_TOKEN,
}


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS)  # the values are random
@pytest.mark.parametrize("form", [str, repr, json.dumps, quote, lambda text: f"postgresql://u:{text}@h/db"])
def test_a_secret_is_found_in_escaped_text(secret: str, form: object) -> None:
    assert callable(form)
    with pytest.raises(AssertionError, match="the log contains a secret"):
        canaries.require_none("the log", f"before {form(secret)} after")


@given(st.sampled_from(list(SECRETS.values())), st.binary(max_size=5), st.binary(max_size=5))
def test_a_secret_is_found_in_base64(secret: str, before: bytes, after: bytes) -> None:
    header = b"authorization: Basic " + base64.b64encode(before + secret.encode() + after)
    with pytest.raises(AssertionError, match="contains a secret"):
        canaries.require_none("a request", header)


@given(st.text(alphabet=st.characters(exclude_characters="4"), max_size=200))
def test_other_text_passes(text: str) -> None:
    canaries.require_none("the log", text)
