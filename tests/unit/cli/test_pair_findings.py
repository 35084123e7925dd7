"""``validate`` and ``check`` report problems between the sources and sinks of the files."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.app import kafka_topics
from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.interfaces import NewTopic
from headrace.cli.main import app
from headrace.cli.validate import check_files
from headrace.pair_checks import KafkaTopic

SOURCE = """name: rows
connector.class: SqlSource
connection.url: sqlite:///rows.db
table.whitelist: rows
topic.prefix: t.
mode: bulk
delete.detection: reconcile
pk.fields: id
"""
SINK = """name: search
connector.class: ElasticsearchSink
connection.url: http://127.0.0.1:9
topics: t.rows
behavior.on.null.values: fail
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A source with a table, and a sink whose cluster does not exist; their folder is the current one."""
    monkeypatch.chdir(tmp_path)
    with sqlite3.connect("rows.db") as connection:
        connection.execute("CREATE TABLE rows (id INTEGER NOT NULL, at TIMESTAMP)")
    connection.close()
    (tmp_path / "rows.yaml").write_text(SOURCE)
    (tmp_path / "search.yaml").write_text(SINK)
    return tmp_path


def test_validate_reports_an_incompatible_pair_with_location_and_fix() -> None:
    result = CliRunner().invoke(app, ["validate", "rows.yaml", "search.yaml"])
    assert result.exit_code == 2, result.output
    lines = result.stderr.splitlines()
    assert lines[0].startswith("search.yaml:5:1: pair.tombstones: connector 'rows' makes tombstones of deleted rows")
    assert "  5 | behavior.on.null.values: fail" in lines
    assert "  → write behavior.on.null.values: delete" in lines
    assert lines[-1] == "1 error in 1 file"


def test_compatible_pairs_are_valid(files: Path) -> None:
    (files / "search.yaml").write_text(SINK.replace("fail", "delete"))
    assert CliRunner().invoke(app, ["validate", "rows.yaml", "search.yaml"]).exit_code == 0


def test_check_compares_the_primary_keys_of_the_tables(files: Path) -> None:
    (files / "rows.yaml").write_text(re.sub("delete.*\\npk.*\\n", "", SOURCE))
    assert CliRunner().invoke(app, ["validate", "rows.yaml", "search.yaml"]).exit_code == 0
    found = {finding.code: finding for finding in check_files([Path("rows.yaml"), Path("search.yaml")])}
    assert found.keys() == {"elasticsearch.unreachable", "pair.no_key"}
    assert "topic 't.rows' have no key" in found["pair.no_key"].message
    assert str(found["pair.no_key"].location) == "rows.yaml:6:1"


def test_a_source_with_an_unavailable_system_is_compared_by_its_file() -> None:
    Path("rows.yaml").write_text(SOURCE.replace("rows.db", "/no/such/folder/rows.db"))
    codes = [finding.code for finding in check_files([Path("rows.yaml"), Path("search.yaml")])]
    assert "pair.tombstones" in codes


def test_check_compares_tasks_with_existing_partitions(files: Path) -> None:
    (files / "worker.yaml").write_text("bootstrap.servers: broker:9092\n")
    (files / "search.yaml").write_text(SINK.replace("fail", "delete") + "tasks.max: 4\n")
    kafka = InMemoryKafka()
    kafka.admin({}).create_topics([NewTopic("t.rows", partitions=2), NewTopic("other", partitions=9)])

    found = check_files(
        [Path("worker.yaml"), Path("rows.yaml"), Path("search.yaml")],
        admin_check=lambda _: "cluster",
        topic_lookup=lambda named, wanted: kafka_topics(kafka.admin({}), named, wanted),
    )
    [idle] = [finding for finding in found if finding.code == "pair.idle_tasks"]
    assert str(idle.location) == "search.yaml:6:1"
    assert idle.message.startswith("4 tasks read 2 partitions: 2 of them")


def test_check_compares_keys_with_the_cleanup_policy_of_kafka_topics(files: Path) -> None:
    (files / "worker.yaml").write_text("bootstrap.servers: broker:9092\n")
    (files / "rows.yaml").write_text(re.sub("delete.*\\npk.*\\n", "", SOURCE))
    kafka = InMemoryKafka()
    kafka.admin({}).create_topics([NewTopic("t.rows", config={"cleanup.policy": "compact"})])

    found = check_files(
        [Path("worker.yaml"), Path("rows.yaml")],
        admin_check=lambda _: "cluster",
        topic_lookup=lambda named, wanted: kafka_topics(kafka.admin({}), named, wanted),
    )
    [refused] = [finding for finding in found if finding.code == "pair.compacted_without_key"]
    assert refused.message.endswith("cleanup.policy of the topic is compact")
    assert refused.hint.endswith("--entity-name t.rows --add-config cleanup.policy=delete")


def test_check_says_which_topics_it_cannot_check(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (files / "worker.yaml").write_text("bootstrap.servers: broker:9092\n")
    (files / "rows.yaml").write_text(re.sub("delete.*\\npk.*\\n", "", SOURCE))
    found = check_files(
        [Path("worker.yaml"), Path("rows.yaml")],
        admin_check=lambda _: "cluster",
        topic_lookup=lambda named, _: {name: KafkaTopic(1) for name in named},
    )
    assert "pair.compacted_without_key" not in [finding.code for finding in found]
    assert "cleanup.policy is not checked of t.rows: this needs DESCRIBE_CONFIGS" in " ".join(
        capsys.readouterr().err.split()
    )


def test_check_names_groups_as_which_the_user_may_not_read(files: Path) -> None:
    (files / "worker.yaml").write_text("bootstrap.servers: broker:9092\n")
    (files / "search.yaml").write_text(SINK.replace("fail", "delete"))
    (files / "other.yaml").write_text(SINK.replace("fail", "delete") + "consumer.override.group.id: g\n")
    asked: list[str] = []

    def refuse(groups: Sequence[str]) -> dict[str, bool]:
        asked.extend(groups)
        return dict.fromkeys(groups, False)

    names = ["worker.yaml", "rows.yaml", "search.yaml"]
    found = check_files([Path(name) for name in names], admin_check=lambda _: "cluster", group_lookup=refuse)
    (missing,) = [finding for finding in found if finding.code == "kafka.not_authorized"]
    assert str(missing.location) == "search.yaml:1:1"
    assert "no READ on GROUP connect-" in missing.message
    assert missing.hint.endswith(f"kafka-acls.sh --add --allow-principal User:NAME --operation Read --group {asked[0]}")
    assert missing.cause == "environment"

    found = check_files([Path("worker.yaml"), Path("other.yaml")], lambda _: "cluster", group_lookup=refuse)
    assert asked[1:] == ["g"]
    assert [finding.key for finding in found if finding.code == "kafka.not_authorized"] == [
        "consumer.override.group.id"
    ]


def test_check_names_missing_acls_with_their_command(files: Path) -> None:
    (files / "worker.yaml").write_text("bootstrap.servers: broker:9092\n")
    (files / "search.yaml").write_text(SINK.replace("fail", "delete"))
    seen = KafkaTopic(1, "delete", frozenset({"DESCRIBE"}))
    found = check_files(
        [Path("worker.yaml"), Path("rows.yaml"), Path("search.yaml")],
        admin_check=lambda _: "cluster",
        topic_lookup=lambda named, _: dict.fromkeys(named, seen),
    )
    missing = [finding for finding in found if finding.code == "kafka.not_authorized"]
    assert [(str(finding.location), finding.message) for finding in missing] == [
        ("rows.yaml:5:1", "cannot write to t.rows: the worker's user has no WRITE on TOPIC t.rows"),
        ("search.yaml:4:1", "cannot read t.rows: the worker's user has no READ on TOPIC t.rows"),
    ]
    assert missing[1].hint == (
        "grant the worker's user READ on TOPIC t.rows: "
        "kafka-acls.sh --add --allow-principal User:NAME --operation Read --topic t.rows"
    )
    assert {finding.cause for finding in missing} == {"environment"}
