"""The files of the quickstart, on real engines: the index has the types of the table, and deletes remove documents."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from headrace.testing.waiting import eventually
from tests.engines.addresses import HttpAddress, KafkaAddress
from tests.engines.http import HTTP

PAGE = Path(__file__).parents[2] / "docs" / "quickstart.md"
FILES = ("worker.yaml", "orders.yaml", "search.yaml")
INDEX = "shop.orders"


def blocks(language: str) -> list[str]:
    """The code blocks of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the page's files, unchanged; each begins with its name."""
    written = {code.splitlines()[0].removeprefix("# "): code for code in blocks("yaml")}
    for name in FILES:
        (tmp_path / name).write_text(written[name])
    return tmp_path


def test_the_files_of_the_quickstart_give_dates_and_numbers_and_delete_documents(
    folder: Path, kafka: KafkaAddress, elasticsearch: HttpAddress, database: str, box: Any
) -> None:
    url = elasticsearch.url
    HTTP.delete(f"{url}/{INDEX}")
    environment = {
        **os.environ,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "ELASTICSEARCH_URL": url,
        "DATABASE_URL": database,
    }
    [statements] = blocks("sql")
    # Only the test needs a separate port.
    running = box.worker_process(folder, kafka.bootstrap_servers)
    with (folder / "worker.yaml").open("a") as file:
        file.write(f"listeners: {running.url}\n")

    checked = subprocess.run(
        [box.headrace, "check", *FILES], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert checked.returncode == 2, "the table is missing"
    with box.connect(database) as connection:
        connection.execute(statements)
        checked = subprocess.run(
            [box.headrace, "check", *FILES], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert checked.returncode == 0, checked.stderr
        assert "warning" not in checked.stderr

        with (folder / "worker.log").open("wb") as log:
            running.process = subprocess.Popen(
                [box.headrace, "run", *FILES], cwd=folder, env=environment, stdout=log, stderr=log
            )
        try:

            def indexed() -> bool:
                """both rows are documents"""
                return set(box.documents(url, INDEX)) == {"1", "2"}

            eventually(indexed, box.timeout)
            mapping = HTTP.get(f"{url}/{INDEX}/_mapping").raise_for_status().json()
            [found] = [index["mappings"]["properties"] for index in mapping.values()]
            assert {name: field["type"] for name, field in found.items()} == {
                "id": "long", "customer": "text", "total": "double", "ordered_on": "date", "updated_at": "date",
            }  # fmt: skip
            first = box.documents(url, INDEX)["1"]
            assert (first["total"], first["ordered_on"][:10], first["customer"]) == (12.5, "2024-05-01", "Ada")

            connection.execute("DELETE FROM orders WHERE id = 1")

            def deleted() -> bool:
                """the deleted row's document is gone"""
                return set(box.documents(url, INDEX)) == {"2"}

            eventually(deleted, box.timeout)
        finally:
            assert running.stop() == 0, running.log
            HTTP.delete(f"{url}/{INDEX}")
