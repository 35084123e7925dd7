"""An experiment over the in-memory Kafka: processes die, answers are lost, and the log gives the state."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from headrace.pipeline.stream import state_codec
from headrace.pipeline.stream.state import StreamState
from headrace.records import TopicPartition
from headrace_streams.connector import StreamApplicationConfig
from headrace_streams.exploration.model_log import follow
from headrace_streams.operators.learn import Learn
from headrace_streams.operators.open_selections import MODELS
from headrace_streams.planning import make_plan
from headrace_streams.rows import Rows
from tests.unit.streams.conftest import Application, MakeApplication
from tests.unit.streams.exploration.application_runs import REQUESTS, run_experiment, shared_records
from tests.unit.streams.exploration.applications import APPLICATION, OFFERS, World

CHANCE = random.Random(20261130)
FAULTS = [(CHANCE.randrange(1, 60), CHANCE.random() < 0.5, CHANCE.random() < 0.7) for _ in range(12)]


def learner(application: Application) -> Learn:
    sections = ("inputs", "tables", "experiments", "steps", "outputs")
    keys = {name: text for name, text in application.config.items() if name.split(".")[0] in sections}
    plan, _ = make_plan("app", StreamApplicationConfig.parse(keys))
    operator = next(step.operator for step in plan.steps if step.name == "learned")
    assert isinstance(operator, Learn)
    return operator


def replay(application: Application, size: int) -> dict[str, Any]:
    """Return the records of the models that the log of the experiment gives, in batches of ``size``."""
    (place,) = [
        item
        for item in application.broker.partitions_of("app-learned-repartition")
        if application.broker.logs[item].read(0, 1, committed=True)[0]
    ]
    records, _ = application.broker.logs[place].read(0, 100_000, committed=True)
    values = [state_codec.decode(record.value or b"") for record in records]
    operator = learner(application)
    state = StreamState({"learned": "changelog"}, {"learned": ("log",)})
    tables: dict[str, dict[Any, Any]] = {operator.log_table: {}}
    for start in range(0, len(values), size):
        part = values[start : start + size]
        rows = Rows([None] * len(part), [item for _, item in part], [time for time, _ in part], [-1] * len(part))
        made = operator.process(rows, tables, state.of(TopicPartition("log", 0))["learned"])
        state.apply(0, {"learned": made.changes})
    return dict(state.of(TopicPartition("log", 0))["learned"][MODELS])


@pytest.mark.parametrize("faults", [[], FAULTS], ids=["no fault", "twelve faults"])
def test_each_request_has_one_selection_and_each_selection_one_label(
    make_application: MakeApplication, faults: list[tuple[int, bool, bool]]
) -> None:
    application = run_experiment(make_application, APPLICATION, faults)

    selected = Counter(value["request"] for value in application.committed("selections"))
    without = Counter(value["request_id"] for value in application.committed("requests-without-candidates"))
    assert selected + without == Counter(f"r{number}" for number in range(REQUESTS))
    assert Counter(value["request"] for value in application.committed("labels")) == selected
    assert any(value["conversion"] for value in application.committed("labels"))

    models = shared_records(application, "app-surveys-models")
    experiment = learner(application).experiment
    for size in (1, 7, 1000):
        replayed = replay(application, size)
        assert replayed == models
        assert follow(experiment, None, replayed).to_bytes() == follow(experiment, None, models).to_bytes()
    assert models["head"]["seq"] > sum(selected.values())


def test_two_tasks_select_by_the_models_that_one_of_them_learns(make_application: MakeApplication) -> None:
    application: Application = make_application(APPLICATION, {"requests": 2, "conversions": 2, "offers": 1})
    application.send("offers", OFFERS, list(range(len(OFFERS))))
    tasks = [application.start(number) for number in (0, 1)]
    requests = list(World(5, 80).requests())
    for start in (0, 40):
        part = requests[start : start + 40]
        application.send("requests", part, [item["request_id"] for item in part])
        application.wait_until_processed()
        selected = [value["request"] for value in application.committed("selections")]
        conversions = [{"request": name, "converted_at": (start + 41) * 2000} for name in selected[::3]]
        application.send("conversions", conversions, [item["request"] for item in conversions])
        application.wait_until_processed()
    for task in tasks:
        task.stop()

    selections = application.committed("selections")
    without = application.committed("requests-without-candidates")
    names = Counter([value["request"] for value in selections] + [value["request_id"] for value in without])
    assert names == Counter(item["request_id"] for item in requests)
    assert max(value["seq"] for value in selections) > 0
    assert replay(application, 1000) == shared_records(application, "app-surveys-models")
