"""What validation over REST asks the database for."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from headrace_sources.sql.connector import JdbcSourceConnector, SqlSourceConnector


@pytest.mark.parametrize("connector", [SqlSourceConnector, JdbcSourceConnector])
def test_rest_9_tables_are_recommended(tmp_path: Path, connector: type[SqlSourceConnector]) -> None:
    url = f"sqlite:///{tmp_path / 'shop.db'}"
    engine = create_engine(url)
    with engine.begin() as connection:
        for table in ("orders", "items"):
            connection.execute(text(f"CREATE TABLE {table} (id integer PRIMARY KEY)"))
    engine.dispose()

    found = connector().look_up({"connection.url": url})

    assert found.values == {"table.whitelist": ["items", "orders"], "table.blacklist": ["items", "orders"]}
    assert found.findings == ()


def test_rest_9_a_database_that_is_down_is_an_error_of_its_url() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"postgresql+psycopg://reader:literal-password@127.0.0.1:{unused.getsockname()[1]}/shop"
        found = SqlSourceConnector().look_up({"connection.url": url})

    (finding,) = found.findings
    assert (finding.key, finding.code, finding.severity) == ("connection.url", "sql.unreachable", "error")
    assert "refused" in finding.message
    assert "literal-password" not in str(finding)
    assert found.values == {}


@pytest.mark.parametrize("properties", [{}, {"connection.url": "no URL"}, {"connection.url": "postgresql://h/d?x=1"}])
def test_keys_that_are_wrong_are_not_reported_twice(properties: dict[str, str]) -> None:
    assert SqlSourceConnector().look_up(properties) == ({}, ())
