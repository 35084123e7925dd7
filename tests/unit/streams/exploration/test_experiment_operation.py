"""``headrace experiment status, show, replay, promote, rollback`` on an application over the in-memory Kafka."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from headrace.cli.command_context import TerminalCommandContext
from headrace.errors import ConfigError, ConflictError, HeadraceError, NotFoundError
from headrace_streams.connector import StreamApplicationConfig
from headrace_streams.experiments.application_commands import moment_of
from headrace_streams.experiments.commands import app as experiment
from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.model_history import ModelHistory, ModelHistoryError
from headrace_streams.operators.learn import Learn
from headrace_streams.planning import make_plan
from tests.unit.streams.conftest import Application, MakeApplication, application_maker
from tests.unit.streams.exploration.application_runs import REQUESTS, run_experiment
from tests.unit.streams.exploration.applications import APPLICATION

TEXT = f"{APPLICATION}  model-history: learned.models\n"
SECTIONS = ("inputs", "tables", "experiments", "steps", "outputs")
EVERYTHING = "--from 1970-01-01 --to 2100-01-01"


class Commands:
    """Runs commands of ``headrace experiment`` on an application."""

    def __init__(self, application: Application, folder: Path) -> None:
        self.application = application
        self.file = Path(application.origins.origins["app"].path)
        self.folder = folder
        self._worker = folder / "worker.yaml"
        lines = [f"{name}: {text}" for name, text in application.worker.items()]
        self._worker.write_text("\n".join([*lines, "offset.storage.file.filename: offsets"]), encoding="utf-8")
        self._app = typer.Typer()
        context = {"obj": TerminalCommandContext(application.broker)}
        self._app.add_typer(experiment, name="experiment", context_settings=context)

    def run(self, command: str, file: Path | None = None) -> Result:
        words = [*shlex.split(command), "-a", str(file or self.file), "-w", str(self._worker)]
        return CliRunner().invoke(self._app, ["experiment", *words])

    def data(self, command: str) -> Any:
        answer = self.run(f"{command} --json")
        assert answer.exit_code == 0, answer.exception or answer.output
        return json.loads(answer.stdout)

    def refused(self, command: str, kind: type[HeadraceError], file: Path | None = None) -> str:
        answer = self.run(command, file)
        assert isinstance(answer.exception, kind), answer.exception or answer.output
        return str(answer.exception)

    def experiment(self) -> Experiment:
        own = {key: text for key, text in self.application.config.items() if key.split(".")[0] in SECTIONS}
        plan, _ = make_plan("app", StreamApplicationConfig.parse(own))
        return next(step.operator.experiment for step in plan.steps if isinstance(step.operator, Learn))

    def changed_file(self, old: str, new: str) -> Path:
        text = self.file.read_text(encoding="utf-8")
        assert old in text
        path = self.folder / "changed.yaml"
        path.write_text(text.replace(old, new), encoding="utf-8")
        return path


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeApplication]:
    yield from application_maker(tmp_path_factory.mktemp("applications"))


@pytest.fixture(scope="module")
def learned(maker: MakeApplication, tmp_path_factory: pytest.TempPathFactory) -> Commands:
    """Return commands on an application that has learned; tests do not change its traffic."""
    return Commands(run_experiment(maker, TEXT, []), tmp_path_factory.mktemp("commands"))


@pytest.fixture(scope="module")
def make_commands(maker: MakeApplication, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Commands]:
    """Return a function that returns commands on an application whose traffic a test may change."""

    def make() -> Commands:
        application = maker(TEXT, {"requests": 1, "conversions": 1, "offers": 1})
        return Commands(application, tmp_path_factory.mktemp("commands"))

    return make


def started(commands: Commands) -> Commands:
    application = commands.application
    application.send("offers", [{"category": "a", "loi": 1, "active": True}], [1])
    select(commands, 0)
    return commands


def select(commands: Commands, first: int) -> list[dict[str, Any]]:
    """Send 20 requests, and return their selections."""
    application = commands.application
    task = application.start()
    requests = [
        {"request_id": f"r{n}", "user_id": n, "country": "de", "patience": 30, "asked_at": n * 1000}
        for n in range(first, first + 20)
    ]
    application.send("requests", requests, [item["request_id"] for item in requests])
    application.wait_until_processed()
    task.stop()
    application.tasks.remove(task)
    return [value for value in application.committed("selections") if int(value["request"][1:]) >= first]


def test_status_shows_traffic_counts_and_what_is_missing(learned: Commands) -> None:
    found = learned.data("status")
    assert found["transition"]["transition"] == "started"
    versions = {item["version"]: item for item in found["versions"]}
    assert {name: item["share"] for name, item in versions.items()} == {
        "v1": 0.65, "v2": 0.3, "v3": 0.0, "holdout": 0.05
    }  # fmt: skip
    assert versions["v1"]["state"] == "current"
    assert versions["v3"]["state"] == "shadow"
    assert "more conversions" in versions["v2"]["missing"]
    last = learned.application.committed("experiment-counts")[-1]["counts"]["v2"]
    assert versions["v2"]["units"] == last["units"] > 0

    text = learned.run("status").stdout
    assert "transition 1 at 1970-01-01" in text
    assert "v2: too early for a verdict" in text


def test_status_says_that_counts_are_not_written(learned: Commands) -> None:
    file = learned.changed_file("  experiment-counts: learned.counts\n", "")
    assert "set outputs: {TOPIC: learned.counts}" in learned.run("status", file).stdout


def test_the_posterior_of_a_version_is_what_its_scores_are_made_of(learned: Commands) -> None:
    found = learned.data("show v1")
    assert found["events"] > REQUESTS
    candidates = {item["candidate"]: item for item in found["candidates"]}
    assert "3" not in candidates  # it is not active
    assert [item["probability"] for item in found["candidates"]] == sorted(
        (item["probability"] for item in found["candidates"]), reverse=True
    )
    best = found["candidates"][0]
    assert best["low"] < best["probability"] < best["high"]
    assert best["contributions"].keys() == {"offer.category", "offer"}
    bookings = sum(item["impressions"] for item in candidates.values())
    assert bookings == pytest.approx(len(learned.application.committed("selections")))
    assert "offer.category" in learned.run("show v1 --most 2").stdout


def test_a_replay_of_the_versions_that_selected_is_equal_byte_by_byte(learned: Commands) -> None:
    found = learned.data(f"replay {EVERYTHING} --version v2 --compare v1")
    selections = learned.application.committed("selections")
    made = {item["version"]: item for item in found["versions"]}
    for version in ("v1", "v2"):
        assert made[version]["own"] == sum(value["version"] == version for value in selections) > 0
        assert made[version]["equal"] == made[version]["own"]
    assert found["reproduced"]
    assert found["outcomes"] == len(selections)


def test_a_replay_of_a_shadow_version_says_what_the_selection_said(learned: Commands) -> None:
    file = learned.folder / "replayed.jsonl"
    answer = learned.run(f"replay {EVERYTHING} --version v3 --output {file}")
    assert answer.exit_code == 0, answer.exception or answer.output
    replayed = {row["request"]: row for row in map(json.loads, file.read_text().splitlines())}
    selections = learned.application.committed("selections")
    assert len(replayed) == len(selections)
    for value in selections:
        shadow = value["shadows"]["v3"]
        row = replayed[value["request"]]
        assert row["v3"]["selected"] == shadow["selected"]
        assert row["v3"]["propensity"] == shadow["propensity"]


def test_the_log_that_an_application_writes_can_be_evaluated(learned: Commands) -> None:
    file = learned.folder / "labels.jsonl"
    labels = learned.application.committed("labels")
    file.write_text("".join(json.dumps(value) + "\n" for value in labels), encoding="utf-8")
    columns = "--outcome conversion --survey selected --unit unit"
    for target in ("uniform", "shadows.v3.propensity", "shadows.v3.propensities"):
        words = shlex.split(f"experiment evaluate {file} --target {target} {columns} --json")
        app = typer.Typer()
        context = {"obj": TerminalCommandContext(learned.application.broker)}
        app.add_typer(experiment, name="experiment", context_settings=context)
        answer = CliRunner().invoke(app, words)
        assert answer.exit_code == 0, answer.exception or answer.output
        found = json.loads(answer.stdout)
        assert found["impressions"] == len(labels)
        if target == "uniform":
            weights = [1 / value["candidate_count"] / value["propensity"] for value in labels]
            value = sum(w * (v["conversion"] is not None) for w, v in zip(weights, labels, strict=True)) / len(labels)
            assert found["estimates"]["ips"]["value"] == pytest.approx(value)
        assert ("dr" in found["estimates"]) == (target != "shadows.v3.propensity")


def test_a_replay_of_a_changed_version_fails_with_the_first_request(learned: Commands) -> None:
    file = learned.changed_file("v2: {model: logistic,", "v2: {model: logistic, explore: 2,")
    answer = learned.run(f"replay {EVERYTHING} --version v2", file)
    assert answer.exit_code == 1
    assert "v2: " in answer.stdout
    assert "selections differ from the log, first that of request r" in answer.stdout


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (f"replay {EVERYTHING} --version v9", "experiment surveys has no version v9"),
        ("replay --from 2090-01-01 --version v1", "has no selections of experiment surveys in this time"),
        ("replay --from lately --version v1", "'lately' is not a time"),
        ("show v9", "experiment surveys has no version v9"),
        ("status --experiment other", "has no experiment other"),
    ],
)
def test_commands_that_cannot_be_run_are_refused(learned: Commands, command: str, message: str) -> None:
    assert message in learned.refused(command, ConfigError)


def test_a_history_has_the_models_at_any_event_whatever_the_order_of_its_records(learned: Commands) -> None:
    records = learned.application.committed_records("model-history")
    heads = [value for key, value in records if key == "head"]
    history = ModelHistory(reversed(records))
    for head in (heads[0], heads[len(heads) // 2], heads[-1]):
        models = history.models_at(learned.experiment(), head["seq"])
        assert (models.seq, models.digest) == (head["seq"], head["digest"])
    with pytest.raises(ModelHistoryError, match="event 1 of 5 is not there"):
        ModelHistory(item for item in records if item[0] != "event/1").models_at(learned.experiment(), 5)
    other = [(key, {**value, "digest": "x"} if key == "event/2" else value) for key, value in records]
    with pytest.raises(ModelHistoryError, match="event 2 does not follow the events before it"):
        ModelHistory(other).models_at(learned.experiment(), 5)


def test_an_experiment_that_has_not_started_is_refused(make_commands: Callable[[], Commands]) -> None:
    commands = make_commands()
    commands.application.broker.create("experiment-log", 1)
    assert "has no record of experiment surveys" in commands.refused("status", NotFoundError)
    assert "has no record of experiment surveys" in commands.refused("promote v2 --yes", NotFoundError)


def test_the_application_follows_a_promotion_and_a_rollback(make_commands: Callable[[], Commands]) -> None:
    commands = started(make_commands())
    answer = commands.run("promote v2 --yes --reason 'it won'")
    assert answer.exit_code == 0, answer.exception or answer.output
    assert {value["version"] for value in select(commands, 100)} <= {"v2", "holdout"}
    last = commands.data("status")["transition"]
    assert (last["transition"], last["version"], last["by"], last["reason"]) == ("promote", "v2", "command", "it won")
    assert last["current"] == "v2"

    assert commands.run("rollback v2 --yes").exit_code == 0
    assert {value["version"] for value in select(commands, 200)} <= {"v1", "holdout"}
    assert commands.data("status")["transition"]["current"] == "v1"


def test_a_version_gets_a_share_and_the_change_is_undone(make_commands: Callable[[], Commands]) -> None:
    commands = started(make_commands())
    before = {value["unit"]: value["version"] for value in commands.application.committed("selections")}
    assert commands.run("promote v3 --share 40% --yes").exit_code == 0
    assert commands.data("status")["transition"]["shares"]["v3"] == 0.4
    assert commands.run("rollback --yes").exit_code == 0
    found = commands.data("status")["transition"]
    assert found["shares"] == {"holdout": 0.05, "v1": 0.65, "v2": 0.3}
    again = select(commands, 0)
    assert {value["unit"]: value["version"] for value in again if value["traffic"] == found["number"]} == before


def test_without_confirmation_nothing_is_written(make_commands: Callable[[], Commands]) -> None:
    commands = started(make_commands())
    assert commands.run("promote v2").exit_code == 1
    assert commands.data("status")["transitions"] == 1


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("promote v1", "version v1 is the current one already"),
        ("promote v9", "version v9 is not declared by the running application, which has v1, v2, v3, holdout"),
        ("promote holdout", "the holdout is no version"),
        ("promote v1 --share 20%", "version v1 is the current one: it has the traffic that no other version has"),
        ("promote v3 --share 70%", "version v3 cannot have 70.00% of the traffic: other versions have 35.00%"),
        ("rollback v3", "version v3 has no traffic"),
        ("rollback v1", "version v1 has been the current one from the start"),
        ("rollback", "the traffic has not changed since the start"),
    ],
)
def test_transitions_that_cannot_be_made_are_refused(learned: Commands, command: str, message: str) -> None:
    assert message in learned.refused(f"{command} --yes", ConflictError)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yesterday", "2026-11-29T00:00:00+00:00"),
        ("today", "2026-11-30T00:00:00+00:00"),
        ("36h", "2026-11-29T03:30:00+00:00"),
        ("2026-11-01", "2026-11-01T00:00:00+00:00"),
        ("2026-11-01T08:00:00+02:00", "2026-11-01T06:00:00+00:00"),
    ],
)
def test_times_are_read_as_they_are_written(text: str, expected: str) -> None:
    now = datetime(2026, 11, 30, 15, 30, tzinfo=UTC)
    assert moment_of(text, now) == datetime.fromisoformat(expected)
