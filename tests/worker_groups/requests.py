"""A client that changes connectors while the group has faults, and remembers what was acknowledged."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from typing import Any

import httpx

from tests.engines.http import HTTP

CONFIG = {
    "connector.class": "SqlSource",
    "table.whitelist": "t0",
    "mode": "incrementing",
    "incrementing.column.name": "id",
}


class RestClient:
    """Creates, changes and deletes stopped connectors at random workers, one request after the other."""

    def __init__(self, urls: Callable[[], Sequence[str]], database: str, seed: int, names: int = 3) -> None:
        """``urls``: of the workers that run now."""
        self._urls = urls
        self._chance = random.Random(seed)
        self._database = database
        self.possible: dict[str, set[int | None]] = {f"rest-{number}": {None} for number in range(names)}
        """By connector: the versions that it may have; None: it may not exist. One, when all was acknowledged."""
        self.acknowledged = self.unclear = 0
        self.rebalancing = 0
        """Requests that may have created or deleted a connector, which the group then assigns."""
        self._version = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="rest-client", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(0.3):
            if urls := self._urls():
                self._change(self._chance.choice(sorted(self.possible)), self._chance.choice(urls))

    def _change(self, name: str, url: str) -> None:
        before = self.possible[name]
        self._version += 1
        wanted: int | None = self._version
        try:
            if None not in before and self._chance.random() < 0.2:
                wanted = None
                self.rebalancing += 1
                self.possible[name] = before | {None}
                answer = HTTP.delete(f"{url}/connectors/{name}", timeout=15)
            elif before == {None}:
                self.rebalancing += 1
                self.possible[name] = before | {wanted}
                body: dict[str, Any] = {"name": name, "initial_state": "STOPPED", "config": self._config()}
                answer = HTTP.post(f"{url}/connectors", json=body, timeout=15)
            else:
                self.possible[name] = before | {wanted}
                answer = HTTP.put(f"{url}/connectors/{name}/config", json=self._config(), timeout=15)
        except httpx.HTTPError:
            self.unclear += 1
            return
        if answer.is_success:
            self.possible[name] = {wanted}
            self.acknowledged += 1
        elif answer.status_code in (404, 409):
            # It was not carried out: a rebalance, or a connector that an unclear request has created or deleted.
            self.possible[name] = before
        else:
            self.unclear += 1

    def _config(self) -> dict[str, str]:
        return {**CONFIG, "connection.url": self._database, "topic.prefix": "r.", "custom.version": str(self._version)}

    def wrong(self, url: str) -> dict[str, tuple[int | None, set[int | None]]]:
        """Return the connectors whose version at this worker is not possible, with those that are."""
        listed = HTTP.get(f"{url}/connectors?expand=info", timeout=15).raise_for_status().json()
        found: dict[str, tuple[int | None, set[int | None]]] = {}
        for name, possible in self.possible.items():
            config = listed.get(name, {}).get("info", {}).get("config", {})
            version = int(config["custom.version"]) if config else None
            if version not in possible:
                found[name] = version, possible
        return found
