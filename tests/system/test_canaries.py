"""Secrets of every kind are put into a worker, faults are provoked, and all its output is searched for them.

No engine runs: Kafka, PostgreSQL and Elasticsearch are a closed port. Dead letters are in test_bad_documents.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

PLACEHOLDERS = {name: f"c4nary-{name}-'9f%3" for name in ("variable", "file", "api-key", "path", "database")}
"""Values of placeholders: no answer of the worker may name them."""
LITERALS = {name: f"c4nary-{name}-literal-7" for name in ("url", "kafka", "tls-key", "override")}
"""Passwords that are written into files; only the routes that return a configuration may name them."""
CANARIES = {**PLACEHOLDERS, **LITERALS}
JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="w" password="{}";'
ANSWERS = (
    "/", "/health", "/metrics", "/v1/metrics", "/connectors", "/connectors?expand=status", "/admin/loggers",
    "/connectors/{}/status", "/connectors/{}/topics", "/connectors/{}/offsets", "/v1/connectors/{}/records",
    "/v1/connectors/{}/conditions",
)  # fmt: skip
CONFIGURATIONS = ("/connectors/{}", "/connectors/{}/config", "/connectors/{}/tasks", "/connectors?expand=info")


def found(text: str, canaries: dict[str, str]) -> list[str]:
    """Return the names of the secrets that a text contains, in any form."""
    forms = (str, repr, json.dumps, quote, lambda text: quote(text, safe=""))
    return [name for name, canary in canaries.items() if any(form(canary).strip("\"'") in text for form in forms)]


def test_no_output_of_a_worker_contains_a_secret(
    box: Any, make_worker: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("variable", "path", "database"):
        monkeypatch.setenv(f"CANARY_{name.upper()}", PLACEHOLDERS[name])
    secrets = tmp_path / "secrets.properties"
    secrets.write_text(f"file={PLACEHOLDERS['file']}\nkey={PLACEHOLDERS['api-key']}\n")
    closed = box.free_port()
    worker = make_worker(f"127.0.0.1:{closed}")
    worker.settings = {
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": JAAS.format(LITERALS["kafka"]),
    }
    source = {"connector.class": "SqlSource", "mode": "bulk", "table.whitelist": "t", "topic.prefix": "x."}
    sink = {
        "connector.class": "ElasticsearchSink",
        "topics": "canaries",
        "connection.api.key": f"${{file:{secrets}:key}}",
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": "canaries.dead",
        "errors.deadletterqueue.topic.replication.factor": "1",
    }
    worker.write(
        "missing",
        {**source, "connection.url": f"sqlite:////none/${{file:{secrets}:file}}/${{env:CANARY_VARIABLE}}"},
    )
    worker.write(
        "refused",
        {**source, "connection.url": f"postgresql://ada:{LITERALS['url']}@127.0.0.1:{closed}/${{env:CANARY_DATABASE}}"},
    )
    worker.write("search", {**sink, "connection.url": f"http://127.0.0.1:{closed}/${{env:CANARY_PATH}}"})
    worker.write(
        "encrypted",
        {
            **sink,
            "connection.url": f"https://127.0.0.1:{closed}",
            "elastic.https.ssl.keystore.location": str(tmp_path / "none.pem"),
            "elastic.https.ssl.key.password": LITERALS["tls-key"],
        },
    )
    worker.write(
        "elsewhere",
        {
            "connector.class": "ConsoleSink",
            "topics": "canaries",
            "consumer.override.bootstrap.servers": f"127.0.0.1:{closed}",
            "consumer.override.sasl.jaas.config": JAAS.format(LITERALS["override"]),
        },
    )
    worker.start()
    names = [path.stem for path in worker.connectors]

    def all_report_a_problem() -> bool:
        answers = [worker.get(f"/connectors/{name}/status") for name in names]
        return all("trace" in json.dumps(answer) or "reason" in json.dumps(answer) for answer in answers)

    try:
        eventually(all_report_a_problem, 60)
        texts: dict[str, str] = {}
        for path in ANSWERS:
            for name in names if "{}" in path else [""]:
                texts[path.format(name)] = HTTP.get(worker.url + path.format(name), timeout=30).text
        for name in names:
            config = {**worker.get(f"/connectors/{name}/config"), "tasks.max": "x", "speling": "x"}
            plugin = f"/connector-plugins/{config['connector.class']}/config/validate"
            answer = HTTP.put(worker.url + plugin, json=config, timeout=30)
            shown = {item["value"]["name"]: item["value"] for item in answer.json()["configs"]}
            shown.get("connection.url", {})["value"] = None  # what the caller sent, as in Kafka Connect
            texts[f"validation of {name}"] = json.dumps(shown)
            texts[f"refusal of {name}"] = HTTP.put(f"{worker.url}/connectors/{name}/config", json=config).text
        for command in (["connectors", "status", "--trace", "--url", worker.url], ["check", *worker.connectors]):
            run = box.command(*command)
            texts[f"headrace {command[0]}"] = run.stdout + run.stderr
        configurations = "".join(
            HTTP.get(worker.url + path.format(name), timeout=30).text for path in CONFIGURATIONS for name in names
        )
        assert worker.process is not None
        texts["process list"] = Path(f"/proc/{worker.process.pid}/cmdline").read_text()
    finally:
        worker.stop()
    texts["log"] = worker.log
    written = [worker.folder / "worker.yaml", *worker.connectors]
    for file in worker.folder.rglob("*"):
        if file.is_file() and file not in written:
            texts[f"file {file.name}"] = file.read_text(errors="replace")

    leaks = {place: found(text, CANARIES) for place, text in texts.items()}
    assert {place: leaked for place, leaked in leaks.items() if leaked} == {}
    assert found(configurations, PLACEHOLDERS) == []
    # The faults that quote secrets did happen.
    status = texts["/connectors/missing/status"]
    assert f"/none/${{file:{secrets}:file}}/${{env:CANARY_VARIABLE}}" in status
    assert "${env:CANARY_PATH}" in texts["headrace check"]
    assert f"127.0.0.1:{closed}" in texts["/connectors/refused/status"]
