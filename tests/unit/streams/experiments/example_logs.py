"""Seeded logs, in which it is known what relates to the outcome: those of the examples in docs/exploration.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

COUNTRIES, LANGUAGES = ("de", "fr", "gb", "us"), ("de", "fr", "en", "en")
DEVICES = ("phone", "tablet", "desktop")
CATEGORIES = ("travel", "food", "sport", "finance", "health")
SURVEYS, USERS = 20, 8_000
START = datetime(2026, 11, 1, tzinfo=UTC)


def write_example_logs(folder: Path, impressions: int = 16_000) -> None:
    """Write ``impressions.jsonl`` and ``selections.jsonl``: surveys are selected uniformly.

    Country, survey, category and (weakly) device and age change the rate; language follows country; shoe_size is
    noise. Version v3 prefers surveys with a high rate.
    """
    random = np.random.default_rng(15)
    country, device = random.integers(0, 4, USERS), random.integers(0, 3, USERS)
    age = random.normal(41, 13, USERS).round().astype(int)
    category, length = random.integers(0, 5, SURVEYS), random.integers(3, 30, SURVEYS)
    effect = random.normal(0, 0.45, SURVEYS)
    sharp = np.exp(effect / 0.5)
    preferred = 0.9 * sharp / sharp.sum() + 0.1 / SURVEYS
    v3 = {f"s{survey}": round(float(share), 6) for survey, share in enumerate(preferred)}
    v3["s0"] += 1 - sum(v3.values())
    chosen = json.dumps({"propensity": 1 / SURVEYS, "candidates": list(v3), "shadow": {"v3": v3}})
    with (folder / "impressions.jsonl").open("w") as log, (folder / "selections.jsonl").open("w") as selections:
        for number in range(impressions):
            user, survey = int(random.integers(0, USERS)), int(random.integers(0, SURVEYS))
            log_odds = (
                -3.3
                + (-0.5, 0.0, 0.25, 0.6)[country[user]]
                + (0.25, 0.0, -0.2)[device[user]]
                + 0.012 * (age[user] - 41)
                + effect[survey]
                + (0.4, 0.0, -0.4, 0.1, 0.0)[category[survey]]
            )
            converted = bool(random.random() < 1 / (1 + np.exp(-log_odds)))
            shown_at = (START + timedelta(seconds=30 * number)).isoformat()
            impression = {"shown_at": shown_at, "user_id": f"u{user}", "survey": f"s{survey}", "converted": converted}
            columns = {
                "country": COUNTRIES[country[user]],
                "language": LANGUAGES[country[user]] if random.random() < 0.97 else "es",
                "device": DEVICES[device[user]],
                "age": int(age[user]) if random.random() > 0.06 else None,
                "category": CATEGORIES[category[survey]],
                "length": int(length[survey]),
                "shoe_size": int(random.normal(41, 3)),
            }
            log.write(json.dumps(impression | columns) + "\n")
            selections.write(f"{json.dumps(impression)[:-1]}, {chosen[1:]}\n")


def write_labels(path: Path, *, impressions: int = 40_000, lift: float = 0.25, lost: float = 0.0) -> None:
    """Write selections with their labels as a stream application writes them: v1 has 80 % of the users, v2 20 %.

    v2's rate is 1 + ``lift`` times as high, and its predictions are 30 % too high. Of its users, ``lost`` are missing.
    """
    random = np.random.default_rng(16)
    v2 = random.random(USERS) < 0.2
    lost_user = v2 & (random.random(USERS) < lost)
    with path.open("w") as log:
        for number in range(impressions):
            user = int(random.integers(0, USERS))
            country, category = random.normal(0, 0.5), random.normal(0, 0.3)
            rate = 1 / (1 + np.exp(3.0 - country - category))
            converted = bool(random.random() < rate * (1 + lift * v2[user]))
            if lost_user[user]:
                continue
            label = {
                "unit": f"u{user}",
                "assigned": "v2" if v2[user] else "v1",
                "selected_at": round((START + timedelta(seconds=20 * number)).timestamp() * 1000),
                "calibrated": float(rate * ((1.3 + lift) if v2[user] else 1.0)),
                "contributions": {"country": country, "offer.category": category},
                "conversion": {"converted_at": 0} if converted else None,
            }
            log.write(json.dumps(label) + "\n")
