"""Generates survey answers: a minimal source for trying headrace, and an example for sources of your own."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from headrace import ConfigModel, Duration, SourceBatch, SourceConnector, SourceContext, SourceTask, Wait, key, schema

PARTITION = {"datagen": "answers"}
"""The source partition. There is one sequence of records, so there is one partition."""

KEY_SCHEMA = schema.INT64
VALUE_SCHEMA = schema.struct(
    {
        "answer_id": schema.INT64,
        "survey": schema.STRING,
        "score": schema.INT32,
        "payout": schema.decimal(2),
        "comment": schema.STRING.as_optional(),
        "answered_at": schema.TIMESTAMP_SCHEMA,
    },
    name="answer",
)

_SURVEYS = ("coffee", "commuting", "garden", "music")
_COMMENTS = (None, "good", "too long", "would do it again")
_FIRST_ANSWER = datetime(2024, 1, 1, tzinfo=UTC)


class DatagenConfig(ConfigModel):
    """One attribute for each key. Parsing, documentation and error messages come from this."""

    topic: str = key("topic", doc="Topic of the records.", importance="high", min_length=1)
    rows: int = key("rows", default=10, ge=1, le=10_000, doc="Number of records in a batch.")
    interval: Duration = key("interval.ms", default=1000, ge=0, doc="Pause between two batches.")
    most: int = key("max.messages", default=-1, ge=-1, doc="Number of records after which to stop. -1: no limit.")
    seed: int = key("seed", default=0, doc="The same seed generates the same records on every machine.")


class DatagenSourceTask(SourceTask):
    """Generates a batch when it is due. The framework owns the loop, the thread, retries and the stored position."""

    def start(self, context: SourceContext) -> None:
        """Read the configuration and the position that was stored last."""
        self._config = DatagenConfig.parse(context.properties)
        [stored] = context.offset_reader.offsets([PARTITION])
        self._made = stored["made"] if stored else 0
        self._due = 0.0

    def poll(self) -> SourceBatch | Wait:
        """Return a batch, or the time until the next one. A task never sleeps: the framework waits."""
        count = self._config.rows if self._config.most < 0 else min(self._config.rows, self._config.most - self._made)
        if count <= 0:
            return Wait(60.0)
        now = time.monotonic()
        if now < self._due:
            return Wait(self._due - now)
        self._due = now + self._config.interval / 1000
        values = [answer(self._config.seed, number) for number in range(self._made + 1, self._made + count + 1)]
        self._made += count
        return SourceBatch(
            self._config.topic,
            values,
            VALUE_SCHEMA,
            keys=[value["answer_id"] for value in values],
            key_schema=KEY_SCHEMA,
            source_partition=PARTITION,
            # The position after this batch. The framework stores it after Kafka has acknowledged every record of the
            # batch; the offset reader returns it after a restart.
            source_offset={"made": self._made},
        )


class DatagenSourceConnector(SourceConnector):
    """Generates records with one task, because there is one sequence."""

    config_model = DatagenConfig
    task_class = DatagenSourceTask

    def task_configs(self, properties: Mapping[str, str], max_tasks: int) -> list[dict[str, str]]:
        """Return the configuration of the only task."""
        return [dict(properties)]


def answer(seed: int, number: int) -> dict[str, Any]:
    """Return record ``number``. It depends on the seed and the number only, so a restart continues the sequence."""
    dice = random.Random(f"{seed}:{number}")  # a text seed gives the same numbers in every process
    return {
        "answer_id": number,
        "survey": dice.choice(_SURVEYS),
        "score": dice.randint(0, 10),
        "payout": Decimal(dice.randint(50, 500)).scaleb(-2),
        "comment": dice.choice(_COMMENTS),
        "answered_at": _FIRST_ANSWER + timedelta(seconds=number),
    }
