"""The container image installs packages with hashes only, and runs without privileges."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from headrace.cli.main import app
from tests.unit.kibana.fake_kibana import FakeKibana

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, int]:
    """Return how many hashes each package of a lock file has."""
    text = (ROOT / name).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.M)[1:]
    return {entry.partition("==")[0].partition("[")[0]: entry.count("--hash=sha256:") for entry in entries}


def required() -> set[str]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    image = ("avro", "fast", "json-schema", "mysql", "postgres", "protobuf")
    texts = [*project["dependencies"], *(text for name in image for text in extras[name])]
    return {match[0] for text in texts if (match := re.match(r"[\w-]+", text))}


def test_every_package_of_the_image_is_locked_with_hashes() -> None:
    packages = locked("requirements.lock")
    assert required() - packages.keys() == set(), "run `make lock`"
    assert min(packages.values()) > 0
    assert min(locked("requirements-build.lock").values()) > 0


def test_the_image_installs_only_locked_packages() -> None:
    installs = re.findall(r"pip install ([^\\\n]*)", DOCKERFILE)
    assert len(installs) == 3
    assert all("--require-hashes" in options or "--no-deps" in options for options in installs)
    assert "--no-build-isolation" in DOCKERFILE


@pytest.mark.parametrize("name", ["headrace", "dashboards"])
def test_the_image_runs_as_an_unprivileged_user_on_a_read_only_file_system(name: str) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"][name]
    assert re.search(r"^USER headrace$", DOCKERFILE, re.M)
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_the_dashboards_service_runs_commands_and_files_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    build, apply = services["dashboards"]["command"][-1].split(" && ")
    for name, value in services["dashboards"]["environment"].items():
        monkeypatch.setenv(name, value)
    local = build.replace("/etc/headrace", str(ROOT / "config")).replace("/tmp/pack", str(tmp_path / "pack"))
    words = [path for word in local.split()[1:] for path in _files(word)]
    offline = [word for word in words if word != "--live"]

    assert CliRunner().invoke(app, offline).exit_code == 0
    arguments = apply.replace("/tmp/pack", str(tmp_path / "pack")).replace("--wait 300", "--wait 0").split()[1:]
    with FakeKibana().serving() as kibana:
        monkeypatch.setenv("KIBANA_URL", kibana.url)
        assert CliRunner().invoke(app, arguments).exit_code == 0
        applied = [(kind, item["attributes"]) for (kind, _), item in kibana.objects().items()]
    sinks = [yaml.safe_load(path.read_text("utf-8")) for path in (ROOT / "config" / "connectors").glob("*.yaml")]
    indices = {topic for sink in sinks for topic in sink.get("topics", "").split(",") if topic}
    views = {"metrics-headrace.worker-*", "logs-headrace.events-*", *indices}
    assert {item["title"] for kind, item in applied if kind == "index-pattern"} == views
    assert [kind for kind, _ in applied].count("dashboard") == len(indices) + 3
    assert len(services["kibana"]["environment"]["XPACK_ENCRYPTEDSAVEDOBJECTS_ENCRYPTIONKEY"]) >= 32


def _files(word: str) -> list[str]:
    """Return the files that a word of a shell names."""
    folder, _, name = word.rpartition("/")
    return sorted(map(str, Path(folder).glob(name))) if "*" in name else [word]
