"""``validate``, ``check``, ``plugins``, ``describe`` and ``schema``: their output and exit codes."""

from __future__ import annotations

import importlib.metadata
import json
import re
import sys
import types
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from headrace import ConfigModel, Finding, RetriableError, Secret, SinkConnector, key
from headrace.cli import loading, output
from headrace.cli.main import app
from headrace.config_providers.env import EnvConfigProvider
from headrace.config_providers.file import FileConfigProvider
from headrace.converters.json import JsonConverter
from headrace.errors import ConfigError, HeadraceError, InfrastructureError
from headrace.registry import PluginKind
from headrace_transforms.simple_header_converter import SimpleHeaderConverter

LONG = "x" * 300


class ShopConfig(ConfigModel):
    url: str = key("connection.url", doc="Where the shop is.", importance="high")
    size: int = key("batch.size", default=10, ge=1, doc=f"Records of a batch {LONG}.")
    password: Secret | None = key("password", default=None, doc="Of the shop.")


class ShopSinkConnector(SinkConnector):
    """Writes to a shop."""

    config_model = ShopConfig
    aliases = ("com.example.ShopSinkConnector",)
    checked: ClassVar[list[Mapping[str, str]]] = []
    answer: ClassVar[list[Finding]] = []
    failure: ClassVar[HeadraceError | None] = None

    def check(self, properties: Mapping[str, str]) -> Iterable[Finding]:
        self.checked.append(properties)
        if self.failure is not None:
            raise self.failure
        return self.answer


@pytest.fixture(autouse=True)
def shop(monkeypatch: pytest.MonkeyPatch) -> type[ShopSinkConnector]:
    """The only connector installed; what its ``check`` returns is set by the test."""
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": ShopSinkConnector.__doc__,
        "checked": [],
        "answer": [],
        "failure": None,
    }
    shop = type("ShopSinkConnector", (ShopSinkConnector,), members)
    module = types.ModuleType("cli_shop")
    installed: list[tuple[PluginKind, str, type]] = [
        (PluginKind.CONNECTOR, "ShopSink", shop),
        (PluginKind.CONVERTER, "JsonConverter", JsonConverter),
        (PluginKind.HEADER_CONVERTER, "SimpleHeaderConverter", SimpleHeaderConverter),
        (PluginKind.CONFIG_PROVIDER, "env", EnvConfigProvider),
        (PluginKind.CONFIG_PROVIDER, "file", FileConfigProvider),
    ]
    found = [EntryPoint(name, f"cli_shop:{cls.__name__}", kind.group) for kind, name, cls in installed]
    found.append(EntryPoint("Broken", "cli_shop_driver:X", PluginKind.CONNECTOR.group))
    vars(module).update({cls.__name__: cls for _, _, cls in installed})
    monkeypatch.setitem(sys.modules, "cli_shop", module)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [item for item in found if item.group == group]
    )
    return shop


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a right worker and a right connector; it is the current one."""
    (tmp_path / "worker.yaml").write_text("bootstrap.servers: broker:9092\n")
    (tmp_path / "out.yaml").write_text("name: out\nconnector.class: ShopSink\nconnection.url: u\ntopics: t\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, exit_code: int = 0, kafka: Kafka | None = None) -> Result:
    result = CliRunner().invoke(app, arguments, obj=kafka)
    if not isinstance(result.exception, SystemExit):
        assert result.exception is None, result.exception
    assert result.exit_code == exit_code, result.output
    return result


def headings(result: Result) -> list[list[str]]:
    """Return location and code of each finding, from the first line of its block."""
    lines = [line for line in result.stderr.splitlines() if re.match(r"\S+:\d+:\d+: ", line)]
    return [line.split(": ")[:2] for line in lines]


class TestValidate:
    def test_a_finding_shows_its_source_line_with_a_caret_and_then_the_number_of_findings(self, files: Path) -> None:
        (files / "worker.yaml").write_text("# of the shop\nbootstrap.server: broker:9092\n")
        (files / "out.yaml").write_text(
            "name: out\nconnector.class: ShopSink\nconnection.url: u\ntopics: t\nbatch:\n  size: x\n"
        )
        lines = run("validate", "worker.yaml", "out.yaml", exit_code=2).stderr.splitlines()
        start = lines.index("worker.yaml:2:1: config.unknown_key: unknown configuration key 'bootstrap.server'")
        assert lines[start + 1 : start + 4] == [
            "  2 | bootstrap.server: broker:9092",
            "    | ^^^^^^^^^^^^^^^^",
            "  → did you mean 'bootstrap.servers'?",
        ]
        assert "  6 |   size: x" in lines
        assert "    |   ^^^^" in lines
        assert lines[-1] == "3 errors in 2 files"

    def test_a_source_line_never_shows_a_literal_password(self, files: Path) -> None:
        (files / "out.json").write_text(
            '{"name": "out", "connector.class": "ShopSink", "conection.url": "db://me:hunter22@host/x", '
            '"topics": "t", "my.password": "hunter33"}'
        )
        stderr = run("validate", "out.json", exit_code=2).stderr
        assert "db://me:[hidden]@host/x" in stderr
        assert "hunter" not in stderr

    def test_a_terminal_of_80_columns_breaks_no_word(self, files: Path) -> None:
        terminal = Console(force_terminal=True, width=80, color_system=None, soft_wrap=True)
        (files / "out.yaml").write_text("name: out\nconnector.class: ShopSink\nconnection.url: u\ntopics.regexp: t\n")
        with terminal.capture() as capture:
            output.print_findings(loading.load([files / "out.yaml"]).findings, terminal)
        lines = capture.get().splitlines()
        words = {word for line in lines for word in line.split()}
        assert {"'topics.regexp'", "configuration", "'topics'?"} <= words
        assert max(map(len, (line for line in lines if str(files) not in line))) <= 80

    def test_trial_12_listeners_and_duplicate_names_are_reported_with_all_other_findings(self, files: Path) -> None:
        (files / "worker.yaml").write_text("bootstrap.serverss: broker:9092\nlisteners: http//x\n")
        (files / "again.yaml").write_text("name: out\nconnector.class: ShopSink\ntopics:\nconnection.url: u\n")
        result = run("validate", "worker.yaml", "out.yaml", "again.yaml", exit_code=2)
        assert sorted(headings(result)) == [
            ["again.yaml:1:1", "config.duplicate_name"],
            ["again.yaml:3:8", "config.invalid_value"],
            ["worker.yaml:1:1", "config.unknown_key"],
            ["worker.yaml:2:1", "config.invalid_value"],
            ["worker.yaml:2:1", "config.missing_key"],
        ]

    @pytest.mark.usefixtures("files")
    def test_valid_files_have_no_findings(self) -> None:
        assert run("validate", "worker.yaml", "out.yaml").stdout == "2 files are valid: connectors out and a worker\n"

    def test_all_mistakes_of_all_files_are_reported_with_their_locations(self, files: Path) -> None:
        (files / "worker.yaml").write_text("bootstrap.server: broker:9092\nlisteners: ${env:NONE_SUCH_HERE}\n")
        (files / "out.yaml").write_text("name: out\nconnector.class: ShopSink\ntopics: t\nbatch:\n    size: many\n")
        (files / "bad.json").write_text('{"name": "x",\n  oops}')
        result = run("validate", "worker.yaml", "out.yaml", "bad.json", exit_code=2)
        assert result.stdout == ""
        assert headings(result) == [
            ["bad.json:2:3", "config.syntax"],
            ["worker.yaml:1:1", "config.unknown_key"],
            ["worker.yaml:2:1", "config.unresolved"],
            ["worker.yaml:2:1", "config.missing_key"],
            ["out.yaml:5:5", "config.invalid_value"],
            ["out.yaml:5:1", "config.missing_key"],
        ]
        assert "→ did you mean 'bootstrap.servers'?" in result.stderr

    def test_kafka_settings_and_listeners_are_validated_as_by_the_worker(self, files: Path) -> None:
        lines = {
            "bootstrap.servers": "broker",
            "offset.flush.interval.ms": "soon",
            "listeners": "http://127.0.0.1:99999",
            "security.protocol": "SASLSSL",
            "client.sasl.mechanism": "GUESS",
            "producer.lingr.ms": "5",
            "consumer.group.id": "a-group-of-ours",
        }
        (files / "worker.yaml").write_text("".join(f"{name}: {text}\n" for name, text in lines.items()))
        result = run("validate", "worker.yaml", "out.yaml", exit_code=2)
        assert headings(result) == [
            ["worker.yaml:1:1", "kafka.invalid_setting"],
            ["worker.yaml:2:1", "config.invalid_value"],
            ["worker.yaml:3:1", "config.invalid_value"],
            ["worker.yaml:4:1", "kafka.invalid_setting"],
            ["worker.yaml:5:1", "kafka.invalid_setting"],
            ["worker.yaml:6:1", "kafka.unknown_setting"],
        ]

    def test_overrides_of_worker_settings_are_validated(self, files: Path) -> None:
        with (files / "out.yaml").open("a") as file:
            file.write("consumer.override.group.id: g\nconsumer.override.max.pol.records: 5\n")
        result = run("validate", "worker.yaml", "out.yaml", exit_code=2)
        assert headings(result) == [["out.yaml:6:1", "kafka.unknown_setting"]]
        assert "max.poll.records" in result.stderr

    def test_a_secret_in_a_kafka_setting_is_not_printed(self, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SHOP_SECRET", "hunter22-hunter22")
        (files / "worker.yaml").write_text("bootstrap.servers: ${env:SHOP_SECRET}\n")
        result = run("validate", "worker.yaml", exit_code=2)
        assert result.stderr.startswith("worker.yaml:1:1: kafka.invalid_setting:")
        assert "hunter22" not in result.output

    def test_a_duplicate_name_names_both_locations(self, files: Path) -> None:
        (files / "again.yaml").write_text("connector.class: ShopSink\nname: out\nconnection.url: u\ntopics: t\n")
        result = run("validate", "out.yaml", "again.yaml", exit_code=2)
        assert result.stderr.startswith("again.yaml:2:1: config.duplicate_name:")
        assert "out.yaml:1:1" in result.stderr

    def test_warnings_do_not_fail_validate(self, files: Path) -> None:
        with (files / "out.yaml").open("a") as file:
            file.write("config.action.reload: none\n")
        result = run("validate", "out.yaml")
        assert result.stderr.startswith("out.yaml:5:1: warning: config.ignored_key:")

    def test_json_has_all_findings(self, files: Path) -> None:
        (files / "out.yaml").write_text("name: out\nconnector.class: ShopSink\nconnection.url: u\ntopics: t\nx: 1\n")
        result = run("validate", "out.yaml", "--json", exit_code=2)
        answer = json.loads(result.stdout)
        assert answer["valid"] is False
        (finding,) = answer["findings"]
        assert {name: finding[name] for name in ("severity", "code", "key", "file", "line", "column")} == {
            "severity": "error",
            "code": "config.unknown_key",
            "key": "x",
            "file": "out.yaml",
            "line": 5,
            "column": 1,
        }
        assert json.loads(run("validate", "worker.yaml", "--json").stdout) == {"valid": True, "findings": []}

    @pytest.mark.parametrize("place", ["batch.size", "errors.tolerance", "connector.class", "value.converter"])
    @pytest.mark.parametrize("flags", [(), ("--json",)])
    def test_a_secret_is_not_printed(
        self, files: Path, monkeypatch: pytest.MonkeyPatch, place: str, flags: tuple[str, ...]
    ) -> None:
        monkeypatch.setenv("SHOP_SECRET", "hunter22-hunter22")
        text = {
            "name": "out",
            "connector.class": "ShopSink",
            "connection.url": "u",
            "topics": "t",
            place: "${env:SHOP_SECRET}",
        }
        (files / "out.json").write_text(json.dumps(text))
        result = run("validate", "out.json", *flags, exit_code=2)
        assert "hunter22" not in result.output
        assert "${env:SHOP_SECRET}" in result.output


class Kafka:
    """A fake admin client."""

    def __init__(self, failure: HeadraceError | None = None) -> None:
        self.asked: list[Mapping[str, str]] = []
        self.failure = failure

    def __call__(self, settings: Mapping[str, str]) -> str:
        self.asked.append(settings)
        if self.failure is not None:
            raise self.failure
        return "cluster"


@pytest.fixture
def kafka() -> Kafka:
    """The admin client of ``run(…, kafka=kafka)`` for the ``check`` command."""
    return Kafka()


class TestCheck:
    def test_check_connects_to_kafka_and_runs_the_check_of_each_connector(
        self, files: Path, kafka: Kafka, shop: type[ShopSinkConnector]
    ) -> None:
        (files / "worker.yaml").write_text("bootstrap.servers: broker:9092\nadmin.client.id: me\n")
        result = run("check", "worker.yaml", "out.yaml", kafka=kafka)
        assert kafka.asked == [{"bootstrap.servers": "broker:9092", "client.id": "me"}]
        assert shop.checked == [{"connection.url": "u"}]
        assert result.stderr.splitlines() == [
            "checking Kafka at broker:9092 … ok",
            "checking connector out (ShopSink) … ok",
        ]

    @pytest.mark.usefixtures("files")
    def test_an_unavailable_kafka_is_an_environment_error_and_the_rest_is_checked(
        self, kafka: Kafka, shop: type[ShopSinkConnector]
    ) -> None:
        kafka.failure = RetriableError("broker:9092 does not answer", code="kafka.unreachable")
        result = run("check", "worker.yaml", "out.yaml", exit_code=3, kafka=kafka)
        assert "worker.yaml:1:1: kafka.unreachable: broker:9092 does not answer\n" in result.stderr
        assert "→ check that Kafka is running, and its host and port" in result.stderr
        assert shop.checked

    @pytest.mark.usefixtures("files")
    def test_findings_of_connectors_have_locations(self, shop: type[ShopSinkConnector]) -> None:
        shop.answer = [
            Finding("shop.closed", "the shop is closed", "connection.url", "come back", cause="environment"),
            Finding("shop.small", "the shop is small", "batch.size", severity="warning"),
        ]
        result = run("check", "out.yaml", exit_code=3)
        assert "checking connector out (ShopSink) … 1 error, 1 warning" in result.stderr
        lines = result.stderr.splitlines()
        assert "out.yaml:3:1: shop.closed: the shop is closed" in lines
        assert "  → come back" in lines
        assert "out.yaml:4:1: warning: shop.small: the shop is small" in lines
        assert "topics: t" not in result.stderr  # batch.size, which the warning is about, is not in the file

    @pytest.mark.usefixtures("files")
    def test_warnings_do_not_fail_check(self, kafka: Kafka, shop: type[ShopSinkConnector]) -> None:
        shop.answer = [Finding("shop.small", "the shop is small", severity="warning")]
        assert json.loads(run("check", "worker.yaml", "out.yaml", "--json", kafka=kafka).stdout)["valid"] is True

    @pytest.mark.usefixtures("files")
    @pytest.mark.parametrize(
        ("failure", "exit_code"),
        [
            (InfrastructureError("wrong password", code="shop.login"), 3),
            (ConfigError(findings=[Finding("config.invalid_value", "no such table", "topics")]), 2),
        ],
    )
    def test_an_error_raised_by_a_check_is_a_finding(
        self, shop: type[ShopSinkConnector], failure: HeadraceError, exit_code: int
    ) -> None:
        shop.failure = failure
        result = run("check", "out.yaml", exit_code=exit_code)
        assert ("wrong password" if exit_code == 3 else "out.yaml:4:1: config.invalid_value") in result.stderr

    def test_check_of_invalid_files_connects_to_nothing(
        self, files: Path, kafka: Kafka, shop: type[ShopSinkConnector]
    ) -> None:
        (files / "out.yaml").write_text("name: out\nconnector.class: ShopSink\n")
        run("check", "worker.yaml", "out.yaml", exit_code=2, kafka=kafka)
        assert (kafka.asked, shop.checked) == ([], [])

    @pytest.mark.usefixtures("files")
    def test_without_a_worker_file_kafka_is_not_checked_and_this_is_reported(self, kafka: Kafka) -> None:
        assert "Kafka is not checked" in run("check", "out.yaml", kafka=kafka).stderr
        assert kafka.asked == []


class TestPlugins:
    def test_all_kinds_of_plugins_and_broken_ones_are_listed(self) -> None:
        result = run("plugins")
        rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.split()}
        assert rows["ShopSink"] == ["sink", "0.1.0", "com.example.ShopSinkConnector"]
        assert rows["JsonConverter"][0] == "converter"
        assert "env" in rows
        assert "Broken: plugin 'Broken' cannot be loaded" in result.stderr

    def test_json_lists_all_plugins(self) -> None:
        answer = {item["name"]: item for item in json.loads(run("plugins", "--json").stdout)}
        assert answer["ShopSink"] == {
            "name": "ShopSink",
            "type": "sink",
            "class": f"{ShopSinkConnector.__module__}.ShopSinkConnector",
            "version": "0.1.0",
            "aliases": ["com.example.ShopSinkConnector"],
            "error": "",
        }
        assert "cannot be loaded" in answer["Broken"]["error"]


class TestDescribe:
    def test_a_key_is_one_line_with_its_description_below(self) -> None:
        lines = run("describe", "ShopSink").stdout.splitlines()
        place = next(number for number, line in enumerate(lines) if line.startswith("batch.size"))
        assert lines[place] == "batch.size  number ≥ 1, default 10, importance medium"
        assert LONG in "".join(line.strip() for line in lines[place + 1 : place + 8])
        assert "Error Handling" in lines
        assert all(line == line.rstrip() for line in lines)

    def test_a_terminal_wraps_lines_and_truncates_nothing(self) -> None:
        terminal = Console(force_terminal=True, width=60, color_system=None, soft_wrap=True)
        with terminal.capture() as capture:
            output.print_table(("name", "text"), [("a", LONG)], terminal)
        lines = capture.get().splitlines()
        assert max(map(len, lines)) <= 60
        assert "".join(lines).count("x") == len(LONG) + 1  # one in "text"

    def test_one_key_is_described(self) -> None:
        text = run("describe", "ShopSink", "connection.url").stdout
        assert "required" in text
        assert "Where the shop is." in text
        assert "default none" in run("describe", "ShopSink", "errors.tolerance").stdout
        assert "producer.override.*" in run("describe", "ShopSink", "producer.override.acks").stdout

    def test_the_keys_of_the_worker_are_described(self) -> None:
        assert "bootstrap.servers" in run("describe", "worker").stdout

    def test_json_has_all_keys(self) -> None:
        names = [item["name"] for item in json.loads(run("describe", "ShopSink", "--json").stdout)]
        assert names[:2] == ["connection.url", "batch.size"]
        assert json.loads(run("describe", "ShopSink", "batch.size", "--json").stdout)["type"] == "INT"

    def test_a_plugin_without_keys_is_described(self) -> None:
        assert run("describe", "env").stdout == "env has no keys\n"

    @pytest.mark.parametrize(
        ("arguments", "code", "hint"),
        [
            (["ShopSin"], "plugin.unknown", "ShopSink"),
            (["ShopSink", "batch.siz"], "config.unknown_key", "batch.size"),
            (["Broken"], "plugin.broken", "install"),
        ],
    )
    def test_an_unknown_plugin_or_key_is_an_error(self, arguments: list[str], code: str, hint: str) -> None:
        error = CliRunner().invoke(app, ["describe", *arguments]).exception
        assert isinstance(error, ConfigError)
        assert error.code == code
        assert hint in error.hint


class TestSchema:
    def test_the_schema_is_written_to_stdout_or_to_a_file(self, tmp_path: Path) -> None:
        printed = json.loads(run("schema").stdout)
        assert printed["$schema"] == "http://json-schema.org/draft-07/schema#"
        path = tmp_path / "schema.json"
        result = run("schema", "--output", str(path))
        assert json.loads(path.read_text()) == printed
        assert "yaml-language-server" in result.stderr

    def test_a_missing_folder_for_the_schema_is_an_error(self, tmp_path: Path) -> None:
        error = CliRunner().invoke(app, ["schema", "--output", str(tmp_path / "none" / "x.json")]).exception
        assert isinstance(error, ConfigError)
        assert error.code == "cli.output"


@pytest.mark.parametrize("command", ["validate", "check", "plugins", "describe", "schema"])
def test_the_help_shows_examples(command: str) -> None:
    assert f"headrace {command}" in run(command, "--help").output
