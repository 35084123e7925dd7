"""The files of the quickstart and of the README, on real engines: the index has the types of the table, deletes remove
documents, and a stream application between source and sink counts."""

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


README = Path(__file__).parents[2] / "README.md"
THREE_FILES = ("orders.yaml", "spending.yaml", "search.yaml")


def blocks(language: str, page: Path = PAGE) -> list[str]:
    """The code blocks of the page."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


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


def test_the_three_files_of_the_readme_index_rows_and_what_a_stream_counts(
    folder: Path, kafka: KafkaAddress, elasticsearch: HttpAddress, database: str, box: Any, unique_name: str
) -> None:
    url, prefix = elasticsearch.url, f"{unique_name}."
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "DATABASE_URL": database}
    replaced = {  # the addresses of the README are examples, and its topics would be those of the quickstart
        "postgresql+psycopg://reader:${env:DB_PASSWORD}@db.example/shop": "${env:DATABASE_URL}",
        "https://search.example:9200": url,
        "shop.": prefix,
    }
    texts = {code.splitlines()[0].removeprefix("# ").partition(":")[0]: code for code in blocks("yaml", README)}
    for name in THREE_FILES:
        text = texts[name]
        for example, actual in replaced.items():
            text = text.replace(example, actual)
        (folder / name).write_text(text)
    running = box.worker_process(folder, kafka.bootstrap_servers)
    with (folder / "worker.yaml").open("a") as file:
        file.write(f"listeners: {running.url}\n")
    files = ["worker.yaml", *THREE_FILES]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [box.headrace, *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    hour = "date_trunc('hour', now()) - interval '3 hours'"
    with box.connect(database) as connection:
        connection.execute(
            "CREATE TABLE orders (id bigint PRIMARY KEY, customer_id int, status text, amount numeric(10,2),"
            " updated_at timestamptz NOT NULL); CREATE INDEX ON orders (updated_at, id)"
        )
        connection.execute(
            f"INSERT INTO orders VALUES (1, 7, 'paid', 10.50, {hour}), (2, 7, 'paid', 2.25, {hour} + interval '1 min'),"
            f" (3, 7, 'open', 99, {hour} + interval '2 min'), (4, 8, 'paid', 1, now())"
        )
    assert run("validate", *THREE_FILES).returncode == 0
    checked = run("check", *files)
    assert checked.returncode == 0, checked.stderr
    with (folder / "worker.log").open("wb") as log:
        command = [box.headrace, "run", *files]
        running.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:

        def indexed() -> bool:
            """all rows and the hour of the customer are documents"""
            rows, spending = box.documents(url, f"{prefix}orders"), box.documents(url, f"{prefix}spending")
            return set(rows) == {"1", "2", "3", "4"} and "7" in spending

        eventually(indexed, box.timeout)
        spent = box.documents(url, f"{prefix}spending")["7"]
        assert (spent["customer_id"], spent["orders"], spent["spent"]) == (7, 2, 12.75)
    finally:
        assert running.stop() == 0, running.log
