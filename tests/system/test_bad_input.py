"""Every mistake of a user gives one clear message and the right exit code, never a stack trace."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url

SECRET = "hunter2-do-not-show"


@pytest.fixture
def check(box: Any, kafka: Any, tmp_path: Path) -> Callable[..., Any]:
    """Return ``check(**keys)``: ``headrace check`` of a worker's file and a source with these keys."""
    worker = tmp_path / "worker.yaml"
    worker.write_text(f"bootstrap.servers: {kafka.bootstrap_servers}\n")

    def run(url: str, **keys: str) -> Any:
        path = tmp_path / "orders.yaml"
        config = {
            "name": "orders",
            "connector.class": "SqlSource",
            "connection.url": url,
            "mode": "incrementing",
            "incrementing.column.name": "id",
            "table.whitelist": "orders",
            "topic.prefix": "x.",
        } | {key.replace("_", "."): value for key, value in keys.items()}
        path.write_text("".join(f"{key}: {value}\n" for key, value in config.items()))
        answer = box.command("check", worker, path)
        answer.text = answer.stdout + answer.stderr
        answer.path, answer.lines = path, {key: number for number, key in enumerate(config, 1)}
        assert "Traceback" not in answer.text
        return answer

    return run


@pytest.fixture
def orders(database: str, box: Any) -> str:
    with box.connect(database) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY, placed timestamptz NOT NULL)")
    return database


def test_a_valid_configuration_passes(check: Callable[..., Any], orders: str) -> None:
    answer = check(orders)
    assert answer.returncode == 0, answer.text


def test_a_wrong_password_is_an_error(check: Callable[..., Any], orders: str, box: Any) -> None:
    role = f"r_{make_url(orders).database}"
    with box.connect(orders) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    try:
        url = make_url(orders).set(username=role, password=SECRET, host="127.0.0.1")
        answer = check(url.render_as_string(hide_password=False))
    finally:
        with box.connect(orders) as connection:
            connection.execute(f"DROP ROLE {role}")
    assert SECRET not in answer.text
    if "sql.authentication" not in answer.text:
        pytest.skip("this PostgreSQL trusts everybody on 127.0.0.1 (pg_hba.conf), so that no password is wrong")
    assert answer.returncode == 3
    assert answer.text.count("sql.authentication") == 1


def test_an_unknown_host_is_an_error(check: Callable[..., Any]) -> None:
    answer = check(f"postgresql+psycopg://u:{SECRET}@no-such-host.invalid/x")
    assert answer.returncode == 3
    assert "sql.unreachable" in answer.text
    assert "no-such-host.invalid" in answer.text
    assert SECRET not in answer.text


def test_a_missing_table_names_the_nearest(check: Callable[..., Any], orders: str) -> None:
    answer = check(orders, table_whitelist="order")
    assert answer.returncode == 2
    assert "sql.missing_table" in answer.text
    assert "orders" in answer.text
    assert f"{answer.path}:{answer.lines['table.whitelist']}:1" in answer.text


def test_a_missing_column_names_the_nearest(check: Callable[..., Any], orders: str) -> None:
    answer = check(orders, incrementing_column_name="idd")
    assert answer.returncode == 2
    assert "sql.missing_column" in answer.text
    assert "'id'" in answer.text
    assert f"{answer.path}:{answer.lines['incrementing.column.name']}:1" in answer.text


def test_no_index_on_the_cursor_is_a_warning_with_the_statement(check: Callable[..., Any], orders: str) -> None:
    answer = check(orders, mode="timestamp", timestamp_column_name="placed")
    assert answer.returncode == 0, answer.text
    assert "warning" in answer.text
    assert "sql.no_index" in answer.text
    assert "CREATE INDEX" in answer.text
    assert "placed" in answer.text


def test_a_duplicate_name_is_an_error(box: Any, tmp_path: Path) -> None:
    for file in ("one", "two"):
        (tmp_path / f"{file}.yaml").write_text("name: same\nconnector.class: DatagenSource\ntopic: t\n")
    answer = box.command("validate", tmp_path / "one.yaml", tmp_path / "two.yaml")
    assert answer.returncode == 2
    assert "config.duplicate_name" in answer.stderr
    assert f"{tmp_path / 'two.yaml'}:1:1" in answer.stderr
    assert f"{tmp_path / 'one.yaml'}:1:1" in answer.stderr


def test_five_mistakes_are_five_findings(box: Any, tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text(
        "name: orders\n"
        "connector.class: SqlSource\n"
        "tasks.max: many\n"
        "connection.url: postgresql+psycopg://localhost/shop\n"
        "mode: incremental\n"
        "topic.prefx: shop.\n"
        "poll.interval.ms: -1\n"
        "errors:\n"
        "  tolerance: some\n"
        "topic.prefix: shop.\n"
    )
    answer = box.command("validate", path)
    assert answer.returncode == 2
    text, count = answer.stderr.rstrip("\n").rsplit("\n", 1)
    blocks = text.split(f"{path}:")[1:]
    assert [block.split(": ")[0] for block in blocks] == ["3:1", "5:1", "6:1", "7:1", "9:3"]
    assert "incrementing" in blocks[1]
    assert "topic.prefix" in blocks[2]
    assert count == "5 errors in 1 file"


def test_an_unknown_plugin_names_the_nearest(box: Any, tmp_path: Path) -> None:
    path = tmp_path / "orders.yaml"
    path.write_text("name: orders\nconnector.class: SqlSorce\n")
    answer = box.command("validate", path)
    assert answer.returncode == 2
    assert f"{path}:2:1: plugin.unknown" in answer.stderr
    assert "SqlSource" in answer.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        yield opened.getsockname()[1]


def test_a_port_in_use_is_an_error(box: Any, tmp_path: Path, taken: int) -> None:
    worker = tmp_path / "worker.yaml"
    worker.write_text(
        f"bootstrap.servers: 127.0.0.1:1\nlisteners: http://127.0.0.1:{taken}\n"
        f"offset.storage.file.filename: {tmp_path / 'offsets.jsonl'}\n"
    )
    answer = box.command("run", worker)
    assert answer.returncode == 3
    assert "rest.port_in_use" in answer.stderr
    assert str(taken) in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_unavailable_kafka_is_reported_by_check(box: Any, tmp_path: Path) -> None:
    worker = tmp_path / "worker.yaml"
    worker.write_text(f"bootstrap.servers: 127.0.0.1:{box.free_port()}\n")
    answer = box.command("check", worker)
    assert answer.returncode == 3
    assert "kafka.unreachable" in answer.stdout + answer.stderr
    assert "Traceback" not in answer.stdout + answer.stderr


def test_a_missing_file_is_an_error(box: Any, tmp_path: Path) -> None:
    answer = box.command("run", tmp_path / "no.yaml")
    assert answer.returncode == 2
    assert "no.yaml" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_help_page_is_printed(box: Any) -> None:
    answer = box.command("--help")
    assert answer.returncode == 0
    assert "Usage" in answer.stdout
