"""Reads the topics of a group while it runs, and says whether its promises hold."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.broker.interfaces import KafkaClients
from headrace.errors import RetriableError
from headrace.records import ConsumedBatch
from headrace.testing.waiting import eventually


class Observer:
    """Follows topics on a thread of its own. ``tables``: topics with rows that have a growing ``id``."""

    def __init__(self, kafka: KafkaClients, tables: Sequence[str], offsets: str) -> None:
        self._kafka, self._tables, self._offsets = kafka, tables, offsets
        self.arrived: dict[str, dict[int, float]] = {topic: {} for topic in tables}
        """By topic and id: when its first record was read, by the monotonic clock."""
        self.doubled: Counter[str] = Counter()
        self.steps_back: Counter[str] = Counter()
        """How often a topic's ids go back: once for each takeover that sends rows again, and with every change of turn
        of two workers that run one task at the same time."""
        self.positions_back: list[str] = []
        self._newest: dict[str, int] = {}
        self._positions: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def wait_for_rows_after(self, last: Mapping[str, int], timeout: float) -> None:
        """Wait until every topic has a row above its ``last`` one."""
        eventually(lambda: all(self._newest.get(topic, 0) > last[topic] for topic in self._tables), timeout)

    def longest_silence(self, since: float) -> float:
        """Return for how many seconds at most no new row has arrived in a topic after ``since``."""
        found = 0.0
        for topic in self._tables:
            times = sorted([since, *(at for at in list(self.arrived[topic].values()) if at >= since), time.monotonic()])
            found = max(found, *(later - earlier for earlier, later in itertools.pairwise(times)))
        return found

    def _run(self) -> None:
        with_admin = self._kafka.admin({})
        reader = self._kafka.reader({"isolation.level": "read_committed"})
        try:
            known = 0
            while not self._stopping.is_set():
                try:
                    begins = with_admin.begin_offsets([*self._tables, self._offsets]) if known == 0 else {}
                    if begins and {item.topic for item in begins} >= {*self._tables, self._offsets}:
                        reader.assign(begins)
                        known = len(begins)
                    if known:
                        for batch in reader.poll(0.1, 5_000):
                            self._take(batch)
                    else:
                        self._stopping.wait(0.1)
                except RetriableError:
                    self._stopping.wait(0.2)  # a broker is away
        finally:
            reader.close()
            with_admin.close()

    def _take(self, batch: ConsumedBatch) -> None:
        topic, now = batch.topic_partition.topic, time.monotonic()
        for key, value in zip(batch.keys, batch.values, strict=True):
            if value is None:
                continue
            if topic == self._offsets:
                self._take_position((key or b"").decode(), json.loads(value))
            else:
                self._take_row(topic, json.loads(value)["id"], now)

    def _take_row(self, topic: str, row: int, now: float) -> None:
        if row in self.arrived[topic]:
            self.doubled[topic] += 1
        self.arrived[topic].setdefault(row, now)
        if row <= self._newest.get(topic, -1):
            self.steps_back[topic] += 1
        self._newest[topic] = row

    def _take_position(self, key: str, offset: Mapping[str, Any]) -> None:
        position = int(offset.get("incrementing", -1))
        if position < self._positions.get(key, -1):
            self.positions_back.append(f"{key}: {self._positions[key]} → {position}")
        self._positions[key] = position
