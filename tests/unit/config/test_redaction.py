"""Secrets are redacted in every form in which a text can contain them (finding 1 of the security review)."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError, Finding, TaskError
from headrace.redaction import Redactor, Secrets, redacted_errors, secrets_in

SECRETS = st.text(st.characters(codec="utf-8"), min_size=4, max_size=20).filter(lambda text: len(text.strip()) > 3)
FORMS = [
    str,
    str.strip,
    repr,
    ascii,
    json.dumps,
    quote,
    quote_plus,
    lambda text: quote(text, safe=""),
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: " ".join(text.split()),
    lambda text: f"{text!r} and {json.dumps([text])}",
]


@given(SECRETS, st.sampled_from(FORMS))
def test_no_form_of_a_secret_is_left(secret: str, form) -> None:  # type: ignore[no-untyped-def]
    said = form(secret)
    shown = Redactor({secret: "${env:PASSWORD}"})(f"refused: <{said}>")
    assert said.strip("\"'") not in shown
    assert "${env:PASSWORD}" in shown or "[hidden]" in shown


def test_a_text_without_secrets_is_unchanged() -> None:
    assert Redactor({"s3cret": "[hidden]"})("password refused for ada") == "password refused for ada"


def test_a_value_of_two_characters_is_not_redacted() -> None:
    assert Redactor({"on": "${env:MODE}"})("connection") == "connection"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("connection.url", "postgresql+psycopg://ada:s3cret-9@db/shop"),
        ("connection.url", "jdbc:postgresql://db/shop?user=ada&password=s3cret-9"),
        ("connection.url", "jdbc:sqlserver://db;user=ada;password=s3cret-9;encrypt=true"),
        ("connection.url", "jdbc:oracle:thin:ada/s3cret-9@//db:1521/shop"),
        ("connection.url", "http://a:1,http://ada:s3cret-9@b:2"),
        ("sasl.jaas.config", 'org.apache.kafka…PlainLoginModule required username="ada" password="s3cret-9";'),
        ("producer.override.sasl.password", "s3cret-9"),
        ("ssl.key.password", "s3cret-9"),
        ("my.access.token", "s3cret-9"),
    ],
)
def test_passwords_are_found_in_values(key: str, value: str) -> None:
    assert "s3cret-9" not in Redactor(secrets_in({key: value}))(f"cannot use {value}, that is s3cret-9")


def test_a_url_encoded_password_is_redacted_in_its_decoded_form() -> None:
    redact = Redactor(secrets_in({"connection.url": "postgresql://ada:p%40ss%2Fword@db/shop"}))
    assert redact("refused p@ss/word, sent as p%40ss%2Fword") == "refused [hidden], sent as [hidden]"


def test_a_password_equal_to_the_user_name_is_not_redacted() -> None:
    assert secrets_in({"connection.url": "postgresql://postgres:postgres@db/postgres"}) == {}


def test_many_passwords_in_one_value_are_found_in_linear_time() -> None:
    assert len(secrets_in({"connection.url": "a://u:p@" * 100_000})) < 1_000
    assert secrets_in({"connection.url": "://a:" * 200_000}) == {}


class TestScope:
    def test_a_connector_does_not_reveal_whether_its_text_contains_the_secret_of_another(self) -> None:
        secrets = Secrets()
        secrets.add("orders", {"s3cret-9": "${env:DB}"})
        assert secrets.redact("other", "is it s3cret-9?") == "is it s3cret-9?"
        assert secrets.redact("orders", "is it s3cret-9?") == "is it ${env:DB}?"

    def test_the_log_shows_no_secret_of_any_connector(self) -> None:
        secrets = Secrets()
        secrets.add("orders", {"s3cret-9": "${env:DB}"})
        secrets.add_worker({"kafka-pw": "[hidden]"})
        assert secrets.everywhere("s3cret-9 kafka-pw") == "${env:DB} [hidden]"
        assert secrets.redact("other", "kafka-pw") == "[hidden]"

    def test_the_old_value_of_a_changed_secret_is_redacted(self) -> None:
        secrets = Secrets()
        secrets.add("orders", {"old-one": "${env:DB}"})
        assert secrets.redact("orders", "old-one") == "${env:DB}"
        secrets.add("orders", {"new-one": "${env:DB}"})
        assert secrets.redact("orders", "old-one new-one") == "${env:DB} ${env:DB}"


def test_errors_are_raised_without_secrets() -> None:
    redact = Redactor({"s3cret-9": "[hidden]"})
    with pytest.raises(TaskError) as task, redacted_errors(redact):
        raise TaskError("refused s3cret-9", hint="change s3cret-9")
    assert "s3cret-9" not in f"{task.value!r} {task.value} {task.value.hint}"
    with pytest.raises(ConfigError) as config, redacted_errors(redact):
        raise ConfigError(findings=[Finding("x.y", "no s3cret-9", "key", "not s3cret-9")])
    assert "s3cret-9" not in f"{config.value!r} {config.value} {config.value.findings}"
