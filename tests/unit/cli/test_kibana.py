"""The commands of ``headrace kibana``, with a fake Kibana and without Elasticsearch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from headrace.cli.main import app
from headrace.errors import ConfigError, ConflictError, InfrastructureError, RetriableError
from tests.unit.kibana.fake_kibana import FakeKibana

SINK = """\
name: search
connector.class: ElasticsearchSink
connection.url: http://127.0.0.1:9
topics: shop.orders
mapping.fields.status: keyword
mapping.fields.total: double
mapping.fields.updated_at: date
"""


@pytest.fixture
def kibana() -> Iterator[FakeKibana]:
    with FakeKibana().serving() as fake:
        yield fake


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    (tmp_path / "search.yaml").write_text(SINK)
    answer = run("build", str(tmp_path / "search.yaml"), "-o", str(tmp_path / "pack"))
    assert answer.exit_code == 0, answer.output
    return tmp_path / "pack"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["kibana", *arguments])


@pytest.mark.parametrize("command", [(), ("build",), ("check",), ("diff",), ("apply",)])
def test_every_command_has_a_help_page_with_an_example(command: tuple[str, ...]) -> None:
    answer = run(*command, "--help")

    assert answer.exit_code == 0
    assert "headrace kibana" in answer.stdout


def test_a_pack_is_built_offline_checked_compared_and_applied(pack: Path, kibana: FakeKibana) -> None:
    checked = run("check", str(pack))
    assert (checked.exit_code, "no query was run" in checked.stdout) == (0, True)

    before = run("diff", str(pack), "--kibana", kibana.url)
    assert before.exit_code == 1
    assert "new     dashboard: headrace · search · shop.orders" in before.stdout
    assert kibana.writes == []

    applied = run("apply", str(pack), "--kibana", kibana.url)
    assert (applied.exit_code, "6 objects differ, 0 are equal" in applied.stdout) == (0, True)

    after = run("diff", str(pack), "--kibana", kibana.url, "--json")
    assert (after.exit_code, json.loads(after.stdout)) == (0, {"space": "default", "same": 6, "changes": []})


def test_an_edit_in_kibana_is_shown_and_refused(pack: Path, kibana: FakeKibana) -> None:
    run("apply", str(pack), "--kibana", kibana.url)
    kibana.find("search")[0]["attributes"]["columns"] = ["total"]

    shown = run("diff", str(pack), "--kibana", kibana.url)
    assert "edited  search: headrace · search · shop.orders" in shown.stdout
    assert "attributes.columns.[0]" in shown.stdout
    refused = run("apply", str(pack), "--kibana", kibana.url)
    assert isinstance(refused.exception, ConflictError)
    assert refused.exception.exit_code == 2
    assert run("apply", str(pack), "--kibana", kibana.url, "--overwrite").exit_code == 0


def test_apply_waits_until_kibana_has_started(pack: Path, kibana: FakeKibana) -> None:
    kibana.status_failures = [503]
    assert isinstance(run("apply", str(pack), "--kibana", kibana.url).exception, RetriableError)

    kibana.status_failures = [503]
    assert run("apply", str(pack), "--kibana", kibana.url, "--wait", "60").exit_code == 0


def test_the_password_comes_from_the_environment_and_is_not_shown(
    pack: Path, kibana: FakeKibana, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_KIBANA_PASSWORD", "s3cret-pass")
    kibana.authorization = "Basic bm8tdXNlcg=="

    answer = run("diff", str(pack), "--kibana", kibana.url, "--user", "elastic")
    assert isinstance(answer.exception, InfrastructureError)
    assert answer.exception.code == "kibana.denied"
    assert "s3cret-pass" not in answer.output + str(answer.exception)


def test_a_user_without_a_password_and_an_api_key_beside_a_user_are_errors(
    pack: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = run("diff", str(pack), "--user", "elastic")
    assert isinstance(without.exception, ConfigError)
    assert without.exception.code == "cli.no_password"
    monkeypatch.setenv("HEADRACE_KIBANA_API_KEY", "abc")
    both = run("diff", str(pack), "--user", "elastic")
    assert isinstance(both.exception, ConfigError)
    assert both.exception.code == "cli.conflicting_options"


def test_a_broken_pack_is_not_applied(pack: Path, kibana: FakeKibana) -> None:
    path = pack / "saved-objects.ndjson"
    path.write_text(path.read_text().replace('"10.2.0"', '"11.0.0"'))

    assert run("check", str(pack)).exit_code == 1
    answer = run("apply", str(pack), "--kibana", kibana.url)
    assert isinstance(answer.exception, ConfigError)
    assert answer.exception.code == "kibana.too_new"
    assert kibana.writes == []


def test_files_without_a_searchable_sink_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "console.yaml").write_text("name: c\nconnector.class: ConsoleSink\ntopics: a\n")

    answer = run("build", str(tmp_path / "console.yaml"), "-o", str(tmp_path / "pack"))
    assert isinstance(answer.exception, ConfigError)
    assert answer.exception.code == "kibana.no_sinks"


def test_topics_that_only_kafka_knows_are_reported(tmp_path: Path) -> None:
    (tmp_path / "search.yaml").write_text(SINK.replace("topics: shop.orders", "topics.regex: shop.*"))

    answer = run("build", str(tmp_path / "search.yaml"), "-o", str(tmp_path / "pack"))
    assert isinstance(answer.exception, ConfigError)
    assert [finding.code for finding in answer.exception.findings] == ["kibana.unknown_topics", "kibana.no_sinks"]
