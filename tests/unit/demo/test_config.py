"""The example configuration agrees with the demo and with docker-compose.yml."""

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import __main__ as program
from demo.tables import DERIVED, INDICES, SINK, TABLES
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, StreamSettings, WorkerSettings

ROOT = Path(__file__).parents[3]
WORKER = ROOT / "config/worker-standalone.yaml"
CONNECTORS = [*sorted((ROOT / "config/connectors").glob("*.yaml")), *sorted((ROOT / "config/streams").glob("*.yaml"))]


def read(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(path.read_text())
    return loaded


def variables() -> set[str]:
    return {name for path in (WORKER, *CONNECTORS) for name in re.findall(r"\$\{env:(\w+)\}", str(read(path)))}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read(ROOT / "docker-compose.yml")


def test_compose_sets_every_variable_that_the_files_use(compose: dict[str, Any]) -> None:
    assert variables() == set(compose["services"]["headrace"]["environment"])


def test_the_demo_sets_every_variable_that_the_files_use() -> None:
    source = inspect.getsource(program)

    assert [name for name in variables() if f'"{name}":' not in source] == []


def test_compose_waits_for_services_that_have_a_health_check(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert condition == {"condition": "service_healthy"}
            assert "healthcheck" in services[name]


def test_compose_publishes_ports_on_localhost_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_compose_declares_its_volumes_and_mounts_existing_files(compose: dict[str, Any]) -> None:
    sources = {volume.split(":")[0] for one in compose["services"].values() for volume in one.get("volumes", [])}

    assert {source for source in sources if not source.startswith(".")} == set(compose["volumes"])
    assert all((ROOT / source).exists() for source in sources if source.startswith("."))


def test_compose_and_the_embedded_engines_have_the_same_versions(compose: dict[str, Any]) -> None:
    locked = json.loads((ROOT / "connectors/headrace/embedded/engines.lock.json").read_text())
    images = {name: service.get("image", "").partition("@")[0] for name, service in compose["services"].items()}

    assert images["kafka"].endswith(":" + locked["kafka"]["version"])
    assert images["elasticsearch"].endswith(":" + locked["elasticsearch"]["version"])
    assert images["kibana"].endswith(":" + locked["elasticsearch"]["version"])


def test_a_file_is_named_like_its_connector() -> None:
    assert {path.stem: read(path)["name"] for path in CONNECTORS} == {path.stem: path.stem for path in CONNECTORS}


def test_the_sink_reads_the_topics_of_the_sources() -> None:
    topics = set()
    for table in TABLES:
        config = read(ROOT / f"config/connectors/{table.connector}.yaml")
        topics.add(config["topic.prefix"] + config.get("table.whitelist", ""))
    sink = read(ROOT / f"config/connectors/{SINK}.yaml")

    stream = read(ROOT / f"config/streams/{DERIVED[0].connector}.yaml")
    assert set(stream["tables"]["offers"]["topic"].split(",")) < topics
    topics |= {output["topic"] for output in stream["outputs"].values()}
    assert topics == set(sink["topics"].split(",")) == {table.index for table in INDICES}


def test_the_image_copies_only_files_of_the_build_context() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))

    assert {name for line in copied for name in line.split()} == allowed
    assert all((ROOT / name).exists() for name in allowed)


def properties(path: Path) -> dict[str, str]:
    """Return the properties of the file as text, as the framework reads them."""
    return {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in read(path).items()}


def test_the_worker_knows_every_key_of_its_file() -> None:
    # Placeholders in the file, as others, but not of any text.
    chosen = {"rest.authentication": "none", "metrics.elasticsearch.url": "http://search.example:9200"}
    _, findings = WorkerSettings.validate_properties(properties(WORKER) | chosen)

    assert findings == []


@pytest.mark.parametrize("path", CONNECTORS, ids=lambda path: path.stem)
def test_framework_keys_of_connectors_are_valid(path: Path) -> None:
    models: dict[str, type[ConnectorSettings]] = {SINK: SinkSettings, DERIVED[0].connector: StreamSettings}
    model = models.get(path.stem, SourceSettings)
    owned = {key: value for key, value in properties(path).items() if model.owns(key)}

    assert model.validate_properties(owned)[1] == []
    assert {"name", "connector.class"} <= owned.keys()
