"""A real Prometheus from the system's package, and its promtool."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from headrace.embedded.engine import Engine
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import HOST
from tests.engines import canaries
from tests.engines.http import HTTP

SCRAPE_INTERVAL = "500ms"


def require(program: str) -> str:
    """Return the path of ``prometheus`` or ``promtool``; without it skip the test, or fail it where ``CI=true``."""
    found = shutil.which(program)
    if found is None:
        why = f"the program {program} is not installed (apt-get install prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    return found


def promtool(*arguments: str | Path, stdin: str | None = None) -> str:
    """Run promtool and return what it prints; fail the test with it if it finds a problem."""
    done = subprocess.run(
        [require("promtool"), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


class Prometheus(Engine):
    """One server that scrapes ``target`` (``host:port``) as the job ``headrace``."""

    name = "prometheus"
    title = "Prometheus"

    def __init__(self, folder: Path, target: str, *, rules: str, labels: Mapping[str, str]) -> None:
        """``rules``: a rule file; ``labels``: of the target, as a scrape configuration adds them."""
        super().__init__(folder, None)
        self._target = target
        self._rules = rules
        self._labels = dict(labels)

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    @cached_property
    def _version(self) -> str:
        said = subprocess.run([require("prometheus"), "--version"], capture_output=True, text=True, check=True)
        found = re.search(r"version (\S+)", said.stdout + said.stderr)
        return found[1] if found else ""

    @property
    def version(self) -> str:
        return self._version

    @property
    def log_path(self) -> Path:
        return self.folder / "prometheus.log"

    def prepare(self) -> None:
        (self.folder / "rules.yml").write_text(self._rules, encoding="utf-8")
        configuration = {
            "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": "headrace",
                    "static_configs": [{"targets": [self._target], "labels": self._labels}],
                    "scrape_timeout": SCRAPE_INTERVAL,
                    "authorization": {"credentials": canaries.REST_TOKEN},
                }
            ],
        }
        (self.folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")

    def command(self) -> list[str]:
        return [
            require("prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={HOST}:{self.port}",
        ]

    def answers(self, process: SupervisedProcess) -> bool:
        try:
            return HTTP.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> Sequence[Mapping[str, Any]]:
        """Return the result of an instant query. Fail the test with Prometheus' error."""
        answer = HTTP.get(f"{self.url}/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        result: Sequence[Mapping[str, Any]] = answer.json()["data"]["result"]
        return result

    def alerts(self) -> set[tuple[str, str]]:
        """Return the firing alerts: their names, and the connector or "" of each."""
        found = HTTP.get(f"{self.url}/api/v1/alerts").raise_for_status().json()["data"]["alerts"]
        return {
            (alert["labels"]["alertname"], alert["labels"].get("connector", ""))
            for alert in found
            if alert["state"] == "firing"
        }
