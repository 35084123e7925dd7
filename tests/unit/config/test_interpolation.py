"""Placeholders are resolved or reported, and messages never contain their values."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config_providers.env import EnvConfigProvider
from headrace.config_providers.file import FileConfigProvider
from headrace.errors import Finding
from headrace.interpolation import Interpolator, Resolution, make_interpolator
from headrace.placeholders import is_interpolated
from headrace.plugin import ConfigProvider
from headrace.redaction import Redactor
from headrace.registry import Registry
from headrace.validation import redact_findings

PLAIN = st.text(st.characters(exclude_characters="${}", exclude_categories=["Cs"]), max_size=20)
NAMES = st.text("abcXYZ_019.-/", min_size=1, max_size=10)


class EchoProvider(ConfigProvider):
    """Returns the requested path and key as the value."""

    def get(self, path: str, key: str) -> str:
        return f"<{path}|{key}>"


class FixedProvider(ConfigProvider):
    def __init__(self, value: str) -> None:
        self.value = value

    def get(self, path: str, key: str) -> str:
        return self.value


@given(st.lists(st.one_of(PLAIN, st.tuples(st.one_of(st.just(""), NAMES), NAMES))))
def test_every_placeholder_is_replaced_and_nothing_else(parts: list[str | tuple[str, str]]) -> None:
    written, expected = "", ""
    for part in parts:
        if isinstance(part, str):
            written, expected = written + part, expected + part
        else:
            path, key = part
            written += "${p:" + (f"{path}:" if path else "") + key + "}"
            expected += f"<{path}|{key}>"
    assert Interpolator({"p": EchoProvider()}).resolve({"k": written}) == ({"k": expected}, [])


def test_a_resolved_value_is_not_resolved_again() -> None:
    assert Interpolator({"p": FixedProvider("${p:b}")}).resolve({"k": "${p:a}"})[0] == {"k": "${p:b}"}


@pytest.mark.parametrize("text", ["${name}", "$name", "$${}", "${p:", "a$b"])
def test_text_that_is_not_a_placeholder_is_unchanged(text: str) -> None:
    assert not is_interpolated(text)
    assert Interpolator({}).resolve({"k": text}) == ({"k": text}, [])


def test_an_unknown_provider_is_an_error_with_the_nearest_name() -> None:
    resolved, (finding,) = Interpolator({"env": EchoProvider()}).resolve({"k": "${enf:X}"})
    assert resolved == {"k": "${enf:X}"}
    assert (finding.code, finding.key) == ("config.unresolved", "k")
    assert "'env'" in finding.message


@given(
    secret=st.text("qwzxjk0918'\"\\\n", min_size=4, max_size=12),
    before=st.text("ab", max_size=3),
    after=st.text("ab", max_size=3),
)
def test_no_message_contains_the_value_of_a_placeholder(secret: str, before: str, after: str) -> None:
    raw = {"password": before + "${p:x}" + after}
    resolution = Interpolator({"p": FixedProvider(secret)}).resolution(raw, trusted=True)
    resolved = resolution.properties
    findings = [
        Finding("plugin.own", f"cannot connect as {resolved['password']}!", "url", f"not {resolved['password']!r}"),
        Finding("plugin.own", f"<{secret}> and <{secret.upper()}>", "password"),
        Finding("config.invalid_value", f"Invalid value {secret} for configuration password: no {secret}", "password"),
    ]
    said = " ".join(f"{item.message} {item.hint}" for item in redact_findings(findings, raw, resolution)).lower()
    if len(secret.strip()) > 2:
        assert secret.strip().lower() not in said
        assert "${p:x}" in said


def test_a_reason_without_a_secret_is_kept() -> None:
    raw, resolution = {"n": "${p:x}"}, Resolution({"n": "zzz"}, [], {"zzz": "${p:x}"})
    text = "Invalid value zzz for configuration n: Not a number of type INT"
    (finding,) = redact_findings([Finding("config.invalid_value", text, "n")], raw, resolution)
    assert finding.message == "Invalid value ${p:x} for configuration n: Not a number of type INT"


def test_without_placeholders_nothing_changes() -> None:
    assert Redactor({})("text with b") == "text with b"


def test_providers_come_from_the_registry(registry: Registry) -> None:
    assert make_interpolator(registry, ["vault"]).resolve({"k": "${vault:none}"})[1][0].code == "config.unresolved"


class TestEnvironment:
    def test_an_environment_variable_is_returned(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", "s3cret")
        assert EnvConfigProvider().get("", "SHOP_PASSWORD") == "s3cret"

    def test_an_unset_variable_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SHOP_PASSWORD", raising=False)
        with pytest.raises(KeyError, match="SHOP_PASSWORD is not set"):
            EnvConfigProvider().get("", "SHOP_PASSWORD")

    def test_a_path_is_an_error(self) -> None:
        with pytest.raises(KeyError, match="no path"):
            EnvConfigProvider().get("path", "HOME")


class TestFile:
    @pytest.fixture
    def secrets(self, tmp_path: Path) -> Path:
        path = tmp_path / "secrets.properties"
        path.write_text("# mine\npassword = a=b\\u0021\n", encoding="utf-8")
        return path

    def test_a_key_of_a_file_is_returned(self, secrets: Path) -> None:
        assert FileConfigProvider().get(str(secrets), "password") == "a=b!"
        resolved, findings = Interpolator({"file": FileConfigProvider()}).resolve(
            {"k": f"${{file:{secrets}:password}}"}
        )
        assert (resolved, findings) == ({"k": "a=b!"}, [])

    def test_a_changed_file_is_read_again(self, secrets: Path) -> None:
        provider = FileConfigProvider()
        provider.get(str(secrets), "password")
        secrets.write_text("password=new", encoding="utf-8")
        assert provider.get(str(secrets), "password") == "new"

    @pytest.mark.parametrize(
        ("path", "content", "says"),
        [("", None, "no file is named"), ("none", None, "No such file"), ("s", b"a=\xff", "not UTF-8")],
    )
    def test_an_unreadable_file_is_an_error_with_the_reason(
        self, tmp_path: Path, path: str, content: bytes | None, says: str
    ) -> None:
        if content is not None:
            (tmp_path / path).write_bytes(content)
        with pytest.raises(KeyError, match=says):
            FileConfigProvider().get(str(tmp_path / path) if path else "", "password")

    def test_the_error_of_a_missing_key_does_not_show_other_keys(self, secrets: Path) -> None:
        with pytest.raises(KeyError, match="has no key 'user'") as caught:
            FileConfigProvider().get(str(secrets), "user")
        assert "a=b" not in str(caught.value)

    def test_the_error_of_a_malformed_file_shows_only_the_location(self, secrets: Path) -> None:
        secrets.write_text("a=1\nb=\\uXYZ\n", encoding="utf-8")
        with pytest.raises(KeyError, match=r"secrets\.properties:2:1"):
            FileConfigProvider().get(str(secrets), "a")
