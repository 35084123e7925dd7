"""The traffic of the demo: asks for selections over HTTP, and writes the conversions into the database."""

from __future__ import annotations

import heapq
import threading
import time
from collections import Counter, deque
from typing import Any

import httpx
import psycopg

from demo.exploration.market import Market, Survey
from demo.loader import connect
from headrace_streams.exploration.policies import RateRule
from headrace_streams.exploration.simulation import Chosen

SURVEYS_AT_FIRST = 20
_TURNOVER = 12.0
"""Seconds until a survey ends and a new one appears."""


class DemoTraffic:
    """Requests at a rate, on a thread of its own. Counters are read by other threads without a lock."""

    def __init__(self, url: str, database: str, market: Market, rate: float) -> None:
        self._client = httpx.Client(base_url=url, timeout=10)
        self._database = database
        self._market = market
        self._interval = 1 / rate
        self._due: list[tuple[float, str]] = []
        self._rule = RateRule(1, views=100)
        self._rule_due: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._sending = threading.Event()
        self._sending.set()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.error: Exception | None = None
        self.answers: dict[str, str] = {}
        """Request → the survey that was selected."""
        self.requests: Counter[str] = Counter()
        self.conversions: Counter[str] = Counter()
        """By version; counted when they are decided, before their delay."""
        self.without = 0
        self.regret = 0.0
        """Missed conversions: the best probability of the moment less that of the selection."""
        self.rule_regret = 0.0
        self.latencies: deque[float] = deque(maxlen=500)

    def start(self) -> None:
        self._thread.start()

    def stop_requests(self) -> None:
        """Send no more requests; conversions that are due later are still written."""
        self._sending.clear()

    @property
    def open_conversions(self) -> int:
        """The number of conversions that are due later."""
        return len(self._due)

    def stop(self) -> None:
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(15)
        self._client.close()

    def _run(self) -> None:
        try:
            with connect(self._database, autocommit=True) as connection:
                turnover = time.monotonic() + _TURNOVER
                while not self._stop.wait(self._interval):
                    self._convert(connection)
                    if not self._sending.is_set():
                        continue
                    if time.monotonic() > turnover:
                        turnover += _TURNOVER
                        self._turn_over(connection)
                    self._request()
        except Exception as error:  # the main thread reports it and ends the demo
            self.error = error

    def _turn_over(self, connection: psycopg.Connection[Any]) -> None:
        ended = self._market.close_survey()
        connection.execute(
            "UPDATE surveys SET active = false, updated_at = clock_timestamp() WHERE survey_id = %s",
            (ended.survey_id,),
        )
        insert_survey(connection, self._market.open_survey())

    def _request(self) -> None:
        user, now = self._market.user(), time.time()
        name = f"r{len(self.answers) + self.without}"
        began = time.perf_counter()
        answer = self._client.post(
            "/v1/streams/exploration/decide",
            json={"request_id": name, "user_id": user, "asked_at": round(now * 1000)},
        )
        self.latencies.append(time.perf_counter() - began)
        answer.raise_for_status()
        made = answer.json()
        if made["selected"] is None or int(made["selected"]) not in self._market.surveys:
            self.without += 1  # the inventory of the application is some moments old
            return
        self.answers[name] = made["selected"]
        probabilities = {key: self._market.probability(user, item) for key, item in self._market.surveys.items()}
        best, luck, delay = max(probabilities.values()), self._market.luck(), self._market.delay()
        probability = probabilities[int(made["selected"])]
        version = made["version"]
        self.requests[version] += 1
        self.regret += best - probability
        if luck < probability:
            self.conversions[version] += 1
            heapq.heappush(self._due, (now + delay, name))
        self._ask_rule(user, now, best, luck, delay, probabilities)

    def _ask_rule(
        self, user: int, now: float, best: float, luck: float, delay: float, probabilities: dict[int, float]
    ) -> None:
        """Let the simple rule select for the same request; it learns from what its selections would have earned."""
        while self._rule_due and self._rule_due[0][0] <= now:
            _, survey = heapq.heappop(self._rule_due)
            self._rule.learn({"survey": survey}, Chosen(0), 1.0, 0.0)
        rows = self._market.rows(user)
        survey = sorted(self._market.surveys)[self._rule.choose([rows])[0].position]
        self.rule_regret += best - probabilities[survey]
        self._rule.learn({"survey": survey}, Chosen(0), 0.0, 1.0)
        if luck < probabilities[survey]:
            heapq.heappush(self._rule_due, (now + delay, survey))

    def _convert(self, connection: psycopg.Connection[Any]) -> None:
        while self._due and self._due[0][0] <= time.time():
            moment, name = heapq.heappop(self._due)
            connection.execute(
                "INSERT INTO survey_conversions (request, converted_at) VALUES (%s, %s)", (name, round(moment * 1000))
            )


def insert_survey(connection: psycopg.Connection[Any], survey: Survey) -> None:
    """Write a survey into the inventory."""
    connection.execute(
        "INSERT INTO surveys (survey_id, client, category, minutes) VALUES (%s, %s, %s, %s)",
        (survey.survey_id, survey.client, survey.category, survey.minutes),
    )
