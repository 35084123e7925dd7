"""Limits of configurations that are sent over REST (findings 2, 5, 14 and 15 of the security review)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.config import ConfigModel, Duration, IntervalOrCron, Size, key
from headrace.config_providers.file import FileConfigProvider
from headrace.errors import ConfigError
from headrace.interpolation import Interpolator, make_interpolator
from headrace.patterns import compile_pattern
from headrace.placeholders import placeholders
from headrace.plugin import ConfigProvider
from headrace.registry import Registry
from headrace.runtime.schedule import schedule
from headrace.small_files import LARGEST, read_small_file
from headrace.validation import Validator

INSTALLED = Registry()
KAFKAS_PATTERN = re.compile(r"\$\{([^}]*?):(([^}]*?):)?([^}]*?)\}")


class ListedProvider(ConfigProvider):
    """One secret that every configuration may use."""

    def __init__(self, secret: str) -> None:
        self.secret = secret

    def get(self, path: str, key: str) -> str:
        return self.secret


SINK = {"name": "a", "connector.class": "ConsoleSink"}
GUESSES = [
    {"topics.regex": "s.*", "errors.deadletterqueue.topic.name": "${p:x}"},
    {"topics": "s3cret-9, other", "errors.deadletterqueue.topic.name": "${p:x}"},
    {"topics": "t", "transforms": "a", "transforms.a.predicate": "${p:x}", "predicates": "s3cret-9"},
    {"topics": "t", "tasks.max": "${p:x}"},
    {"topics": "t", "errors.tolerance": "${p:x}"},
    {
        "connector.class": "ElasticsearchSink",
        "connection.url": "http://e",
        "topics": "a, ${p:x}",
        "index.name": "i",
        "index.name.regex": "s.*|a",
    },
    {"connector.class": "SqlSource", "connection.url": "${p:x}", "mode": "bulk", "table.whitelist": "t"},
]


class TestPlaceholdersAreNotAnOracle:
    """Finding 2."""

    @pytest.mark.parametrize("guess", GUESSES)
    @pytest.mark.parametrize("secret", ["s3cret-9", "7", "all", "sqlite:///x.db"])
    def test_a_validation_result_does_not_depend_on_the_secret(self, guess: dict[str, str], secret: str) -> None:
        def findings(value: str) -> list[str]:
            validator = Validator(INSTALLED, Interpolator({"p": ListedProvider(value)}))
            return [str(finding) for finding in validator.unresolved_connector({**SINK, **guess})]

        assert findings(secret) == findings("entirely different")

    def test_keys_with_placeholders_are_not_reported_for_their_text(self) -> None:
        validator = Validator(INSTALLED, Interpolator({"p": ListedProvider("1")}))
        assert validator.unresolved_connector({**SINK, "topics": "${p:x}", "tasks.max": "${p:x}"}) == []

    def test_values_without_placeholders_are_validated(self) -> None:
        validator = Validator(INSTALLED, Interpolator({"p": ListedProvider("1")}))
        found = validator.unresolved_connector({**SINK, "topics": "${p:x}", "tasks.max": "0", "speling": "x"})
        assert {finding.key for finding in found} == {"tasks.max", "speling"}


class TestAllowLists:
    """Finding 2: Kafka Connect's keys (KIP-993) say what configurations may use."""

    @pytest.fixture
    def secrets(self, tmp_path: Path) -> Path:
        (tmp_path / "allowed").mkdir()
        for name in ("allowed/mine.properties", "other.properties"):
            (tmp_path / name).write_text("pw = s3cret-9\n")
        (tmp_path / "allowed/link.properties").symlink_to(tmp_path / "other.properties")
        return tmp_path

    def test_over_rest_no_placeholder_is_allowed_without_a_list(
        self, secrets: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", "s3cret-9")
        raw = {"a": "${env:SHOP_PASSWORD}", "b": f"${{file:{secrets}/other.properties:pw}}"}
        interpolator = make_interpolator(INSTALLED)

        refused = interpolator.resolution(raw, trusted=False)

        assert refused.properties == raw
        env, file = (str(finding) for finding in refused.findings)
        assert "config.providers.env.param.allowlist.pattern" in env
        assert "config.providers.file.param.allowed.paths" in file
        assert interpolator.resolution(raw, trusted=True).properties == {"a": "s3cret-9", "b": "s3cret-9"}

    def test_a_refusal_does_not_reveal_whether_the_value_exists(self) -> None:
        interpolator = make_interpolator(INSTALLED)
        there, missing = (
            str(interpolator.resolution({"a": f"${{env:{name}}}"}, trusted=False).findings[0]).replace(name, "X")
            for name in ("PATH", "NO_SUCH_VARIABLE")
        )
        assert there == missing

    @pytest.mark.parametrize("trusted", [True, False])
    def test_environment_variables_must_match_the_whole_pattern(
        self, trusted: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SHOP_PASSWORD", "s3cret-9")
        monkeypatch.setenv("MY_SHOP_PASSWORD", "s3cret-9")
        interpolator = make_interpolator(INSTALLED, settings={"env.param.allowlist.pattern": "SHOP_.*"})

        found = interpolator.resolution({"a": "${env:SHOP_PASSWORD}", "b": "${env:MY_SHOP_PASSWORD}"}, trusted=trusted)

        assert found.properties == {"a": "s3cret-9", "b": "${env:MY_SHOP_PASSWORD}"}

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("allowed/mine.properties", True),
            ("other.properties", False),
            ("allowed/../other.properties", False),
            ("allowed/link.properties", False),
            ("allowed-not/mine.properties", False),
            ("\0", False),
        ],
    )
    def test_files_must_be_in_an_allowed_folder(self, secrets: Path, path: str, allowed: bool) -> None:
        provider = FileConfigProvider()
        provider.configure({"allowed.paths": f"{secrets}/allowed"})
        assert provider.allows(f"{secrets}/{path}", "pw") is allowed

    @pytest.mark.parametrize(
        "settings",
        [
            {"env.param.allowlist.pattern": "("},
            {"env.param.allowlist.patern": "a"},
            {"vault.class": "x"},
            {"env.clas": "x"},
            {"env.class": "NoSuch"},
        ],
    )
    def test_invalid_settings_are_reported_with_their_full_key(self, settings: dict[str, str]) -> None:
        with pytest.raises(ConfigError) as raised:
            make_interpolator(INSTALLED, settings=settings)
        (name,) = settings
        assert [finding.key for finding in raised.value.findings] == [f"config.providers.{name}"]

    def test_allow_lists_of_a_kafka_connect_worker_file_are_accepted(self) -> None:
        properties = {
            "bootstrap.servers": "k:9092",
            "config.providers": "secrets",
            "config.providers.secrets.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
            "config.providers.secrets.param.allowed.paths": "/etc/secrets",
        }
        settings, findings = Validator(INSTALLED, make_interpolator(INSTALLED)).worker(properties)
        assert settings is not None
        assert findings == []


class TestFiles:
    """Finding 6: keys read regular files only, and small ones."""

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin"])
    def test_devices_are_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="not a regular file"):
            read_small_file(Path(path))
        with pytest.raises(KeyError, match="not a regular file"):
            FileConfigProvider().get(path, "a")

    def test_a_pipe_does_not_block(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ValueError, match="not a regular file"):
            read_small_file(tmp_path / "pipe")

    def test_the_limit_is_1_mib(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"a" * LARGEST)
        assert len(read_small_file(tmp_path / "file")) == LARGEST
        (tmp_path / "file").write_bytes(b"a" * (LARGEST + 1))
        with pytest.raises(ValueError, match="larger than 1 MiB"):
            read_small_file(tmp_path / "file")


class TestTimeIsLinear:
    """Finding 5: a request of 1 kB blocked the interpreter for minutes."""

    @given(st.text("${}:ab\n", max_size=30))
    def test_placeholders_match_kafkas_pattern(self, text: str) -> None:
        found = [(item.start, item.end, item.provider, item.path, item.key) for item in placeholders(text)]
        assert found == [
            (match.start(), match.end(), match[1], match[3] or "", match[4]) for match in KAFKAS_PATTERN.finditer(text)
        ]

    @pytest.mark.parametrize("text", ["${:" * 100_000, "${a:" * 100_000 + "}", "${a:b}" * 50_000, "${" * 200_000])
    def test_a_text_with_many_incomplete_placeholders_is_parsed_in_linear_time(self, text: str) -> None:
        resolution = Interpolator({"a": ListedProvider("x")}).resolution({"k": text}, trusted=True)
        assert len(resolution.properties["k"]) <= len(text)

    def test_a_pattern_with_nested_repetition_matches_in_linear_time(self) -> None:
        assert compile_pattern("(a+)+b").fullmatch("a" * 100_000) is None
        assert compile_pattern("(.*)(.*)(.*)(.*)(.*)[^a]").fullmatch("a" * 10_000) is None

    @pytest.mark.parametrize(
        ("pattern", "says"),
        [
            ("(?=a)b", "lookahead"),
            ("(?!a)b", "negative lookahead"),
            ("(?<=a)b", "lookbehind"),
            ("(?<!a)b", "negative lookbehind"),
            (r"(a)\1", "backreferences"),
            ("(?>a)b", "atomic group"),
            ("a++", "bad repetition operator"),
            ("a{5000}", "invalid repetition size"),
            ("(", "missing"),
            ("a" * 20_000, "longer than"),
            ("\ud800", "surrogates"),
        ],
    )
    def test_a_construct_that_re2_lacks_is_named(self, pattern: str, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            compile_pattern(pattern)

    def test_a_sink_with_an_unsupported_pattern_is_refused(self) -> None:
        validator = Validator(INSTALLED, Interpolator({}))
        (finding,) = validator.unresolved_connector({**SINK, "topics.regex": "(?!internal).*"})
        assert (finding.code, finding.key) == ("config.invalid_value", "topics.regex")
        assert "negative lookahead" in finding.message

    def test_patterns_of_kafka_connect_files_are_accepted(self) -> None:
        match = compile_pattern(r"shop\.(?<table>[a-z_]+)-\d{2}(?:\.v\d)?").fullmatch("shop.order_lines-01")
        assert match is not None
        assert (match[1], match["table"]) == ("order_lines", "order_lines")


class SizedConfig(ConfigModel):
    pause: Duration = key("pause.ms", default=1, doc="Pause.")
    size: Size = key("size", default=1, doc="Size.")
    interval: IntervalOrCron = key("interval.ms", default="1s", doc="Interval.")


@pytest.mark.parametrize("value", ["1" * 400 + ".1d", "9" * 400, "9223372036854775808", "1" * 30 + "gib"])
@pytest.mark.parametrize("name", ["pause.ms", "size", "interval.ms"])
def test_a_number_out_of_range_is_an_error_of_its_key(name: str, value: str) -> None:
    """Finding 14: OverflowError, answered with status 500."""
    _, (finding,) = SizedConfig.validate_properties({name: value})
    assert (finding.code, finding.key) == ("config.invalid_value", name)


@pytest.mark.parametrize("text", ["9223372036854775807", "999999999d", "1000000000d"])
def test_an_interval_beyond_all_dates_is_never_over(text: str) -> None:
    """Finding 14. The first one is Long.MAX_VALUE, which means never in files of Kafka Connect."""
    SizedConfig.parse({"interval.ms": text})
    assert schedule(text).next_after(datetime.now(UTC)).year == 9999


def test_the_length_of_a_connector_name_is_limited() -> None:
    """Finding 15."""
    validator = Validator(INSTALLED, Interpolator({}))
    found: Callable[[int], list[str]] = lambda size: [  # noqa: E731
        finding.key for finding in validator.unresolved_connector({**SINK, "name": "a" * size, "topics": "t"})
    ]
    assert found(255) == []
    assert found(256) == ["name"]
