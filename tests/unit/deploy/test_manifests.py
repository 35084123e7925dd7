"""The files of ``deploy/`` fit Kubernetes' own schemas and systemd, ask for no rights that a worker does not need, and
hold values that the worker accepts.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from headrace.cli.main import app
from headrace.rest.access import PUBLIC, RULES

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
MANIFEST = DEPLOY / "kubernetes" / "headrace.yaml"
CHART = DEPLOY / "helm" / "headrace"
UNIT = DEPLOY / "systemd" / "headrace@.service"
KUBERNETES = ("1.25", "1.37")
"""The oldest version that the chart supports, and the newest of the schemas."""


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """The Kubernetes objects by kind and name."""
    documents = list(yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8")))
    return {(item["kind"], item["metadata"]["name"]): item for item in documents if item}


@pytest.fixture(scope="module")
def pod(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["StatefulSet", "headrace"]["spec"]["template"]["spec"]
    return found


def settings_of(unit: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit.read_text("utf-8").splitlines() if re.match(r"\w+=", line))


@pytest.mark.parametrize("version", KUBERNETES)
def test_the_objects_fit_the_schemas_of_kubernetes(
    objects: dict[tuple[str, str], dict[str, Any]], version: str
) -> None:
    assert {kind for kind, _ in objects} == {"ConfigMap", "Service", "StatefulSet", "PodDisruptionBudget"}
    for item in objects.values():
        kubernetes_validate.validate(item, version, strict=True)


def test_the_schemas_refuse_a_wrong_object(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    wrong = {**objects["PodDisruptionBudget", "headrace"], "spec": {"maxUnavaliable": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


def test_a_worker_has_no_rights_that_it_does_not_need(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001, "the user of the image"
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/var/lib/headrace", "/tmp"}


def test_the_probes_are_public_routes_and_liveness_does_not_depend_on_kafka(pod: dict[str, Any]) -> None:
    (container,) = pod["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/health/live", "liveness": "/health/live", "readiness": "/health/ready"}
    assert all(RULES[path]["GET"] is PUBLIC for path in paths.values())
    assert pod["terminationGracePeriodSeconds"] >= 30


def test_the_worker_accepts_its_file(
    objects: dict[tuple[str, str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "worker.yaml"
    file.write_text(objects["ConfigMap", "headrace"]["data"]["worker.yaml"])
    monkeypatch.setenv("HEADRACE_HOST", "headrace-0.headrace-workers.default.svc")
    result = CliRunner().invoke(app, ["validate", str(file)])
    assert result.exit_code == 0, result.output
    config = yaml.safe_load(file.read_text())
    ports = {port["name"]: port["containerPort"] for port in _container(objects)["ports"]}
    assert config["listeners"] == f"http://0.0.0.0:{ports['rest']}"


def _container(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects["StatefulSet", "headrace"]["spec"]["template"]["spec"]["containers"][0]
    return found


def test_the_names_of_workers_are_those_of_the_headless_service(
    objects: dict[tuple[str, str], dict[str, Any]],
) -> None:
    spec = objects["StatefulSet", "headrace"]["spec"]
    service = objects["Service", spec["serviceName"]]["spec"]
    assert service["clusterIP"] == "None"
    assert service["publishNotReadyAddresses"] is True
    host = next(item["value"] for item in _container(objects)["env"] if item["name"] == "HEADRACE_HOST")
    assert host == f"$(POD_NAME).{spec['serviceName']}.$(POD_NAMESPACE).svc"
    labels = spec["template"]["metadata"]["labels"]
    for name in ("headrace", spec["serviceName"]):
        assert objects["Service", name]["spec"]["selector"].items() <= labels.items()
    assert objects["PodDisruptionBudget", "headrace"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.skipif(shutil.which("helm") is None, reason="helm is not installed")
def test_the_manifest_is_what_the_chart_gives() -> None:
    command = ["helm", "template", "headrace", str(CHART), "--namespace", "default", "--kube-version", KUBERNETES[-1]]
    given = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert list(yaml.safe_load_all(MANIFEST.read_text("utf-8"))) == list(yaml.safe_load_all(given))


def test_the_version_of_the_chart_is_that_of_the_product() -> None:
    version = re.search(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"))
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    assert version is not None
    assert chart["appVersion"] == version[1]


def test_the_unit_waits_for_kafka_and_does_not_restart_a_wrong_configuration() -> None:
    unit = settings_of(UNIT)
    assert (unit["Type"], unit["TimeoutStartSec"], unit["RestartPreventExitStatus"]) == ("notify", "infinity", "2")
    assert int(unit["WatchdogSec"]) > 3
    assert int(unit["TimeoutStopSec"]) > 20
    assert unit["ExecStart"].startswith("/opt/headrace/bin/headrace run /etc/headrace/worker-%i.yaml")
    assert unit["User"] != "root"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "headrace@1.service"
    # Only the program is another one: systemd looks whether it exists.
    unit.write_text(UNIT.read_text("utf-8").replace("/opt/headrace/bin/headrace", "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_compose_service_can_be_scaled() -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]["worker"]
    assert "container_name" not in service
    assert "hostname" not in service, "its name is its address for the other workers"
    assert service["ports"] == ["127.0.0.1::8083"], "a port that is free"
    worker = yaml.safe_load((ROOT / "config/worker-group.yaml").read_text("utf-8"))
    variables = set(re.findall(r"\$\{env:(\w+)\}", str(worker)))
    assert variables == set(service["environment"])
