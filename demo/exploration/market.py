"""The outside world of the demo: users and surveys with known probabilities to convert, all from one seed."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from headrace_streams.exploration.model import Row

COUNTRIES, DEVICES = ("de", "fr", "it", "pl"), ("phone", "desktop")
CLIENTS, CATEGORIES = ("acme", "globex", "initech", "umbrella"), ("travel", "health", "finance", "sport")
USERS = 400
_BASE = -3.4
"""Log-odds of a conversion before all effects: about 5 % on average."""


@dataclass(frozen=True)
class Survey:
    """A row of the table ``surveys``."""

    survey_id: int
    client: str
    category: str
    minutes: int


class Market:
    """Users, surveys and the truth. Surveys are numbered from 1."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        gauss = self._random.gauss
        self._client = {name: gauss(0, 0.6) for name in CLIENTS}
        self._category = {name: gauss(0, 0.4) for name in CATEGORIES}
        self._together = {(one, other): gauss(0, 0.7) for one in COUNTRIES for other in CATEGORIES}
        self._own: dict[int, float] = {}
        self.users = {
            number: (self._random.choice(COUNTRIES), self._random.choice(DEVICES)) for number in range(1, USERS + 1)
        }
        self.surveys: dict[int, Survey] = {}
        """The live ones."""

    def open_survey(self) -> Survey:
        """Return a new survey, which is live from now on."""
        number = len(self._own) + 1
        self._own[number] = self._random.gauss(0, 0.5)
        choice = self._random.choice
        survey = Survey(number, choice(CLIENTS), choice(CATEGORIES), choice((5, 10, 15, 20)))
        self.surveys[number] = survey
        return survey

    def close_survey(self) -> Survey:
        """Return the oldest live survey, which has ended."""
        return self.surveys.pop(min(self.surveys))

    def user(self) -> int:
        """Return the user who comes next."""
        return self._random.randint(1, USERS)

    def probability(self, user: int, survey: Survey) -> float:
        """Return the true probability that a user converts on a survey."""
        country, device = self.users[user]
        odds = _BASE + self._client[survey.client] + self._category[survey.category] + self._own[survey.survey_id]
        odds += self._together[country, survey.category] - 0.03 * (survey.minutes - 10)
        odds += 0.2 if device == "desktop" else 0.0
        return 1 / (1 + math.exp(-odds))

    def luck(self) -> float:
        """Return a number between 0 and 1: who has less than the probability converts."""
        return self._random.random()

    def delay(self) -> float:
        """Return the seconds until a conversion."""
        return self._random.lognormvariate(math.log(6.0), 0.7)

    def rows(self, user: int) -> list[Row]:
        """Return the live surveys as the simple rule sees them, by number."""
        return [{"survey": number, "request": str(user)} for number in sorted(self.surveys)]
