"""Files of ``headrace stream test``: records that an application is given, and what it must write."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from headrace.config import Duration
from headrace.errors import ConfigError, Finding, Location
from headrace.pipeline.stream.driver import DrivenRecord, StreamDriver

_ANY = object()


class GivenRecord(BaseModel):
    """A record that is sent to a topic. ``time`` is the record's timestamp in epoch milliseconds.

    Instead of a topic, ``wait``: a time without records, for ``idle.after``.
    """

    model_config = ConfigDict(extra="forbid")

    topic: str = ""
    wait: Duration | None = None
    key: Any = None
    value: Any = None
    time: int = 0

    @model_validator(mode="after")
    def _has_topic_or_wait(self) -> GivenRecord:
        if bool(self.topic) == (self.wait is not None):
            raise ValueError("a record has either 'topic' or 'wait'")
        return self


class ExpectedRecord(BaseModel):
    """A record that must be written. What is not given is not compared."""

    model_config = ConfigDict(extra="forbid")

    key: Any = _ANY
    value: Any = _ANY
    time: Any = _ANY


class Scenario(BaseModel):
    """One test: all records of the topics that ``expect`` names are compared, in order."""

    model_config = ConfigDict(extra="forbid")

    given: list[GivenRecord]
    expect: dict[str, list[ExpectedRecord]] = Field(default_factory=dict)
    refused: list[str] = Field(default_factory=list)
    """Codes of the records that must be refused, in order."""


class ScenarioFile(BaseModel):
    """A test file. ``application``: the application's file, relative to this one."""

    model_config = ConfigDict(extra="forbid")

    application: str
    tests: dict[str, Scenario]


def read_scenarios(path: Path) -> ScenarioFile:
    """Read a test file. Raise ConfigError."""
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, Loader=yaml.CSafeLoader)
        return ScenarioFile.model_validate(content)
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror or type(error).__name__}"
        raise ConfigError(findings=[Finding("config.file", text, location=Location(str(path), 1))]) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = Location(str(path), mark.line + 1, mark.column + 1) if mark else Location(str(path), 1)
        problem = str(getattr(error, "problem", error))
        raise ConfigError(
            findings=[Finding("config.syntax", f"not readable as YAML: {problem}", location=place)]
        ) from error
    except ValidationError as error:
        found = [
            Finding(
                "stream.test_file",
                f"{'.'.join(map(str, item['loc']))}: {item['msg']}",
                hint="a test file has `application` and `tests`, see docs/streams.md",
                location=Location(str(path), 1),
            )
            for item in error.errors()
        ]
        raise ConfigError(findings=found) from error


def run_scenario(driver: StreamDriver, scenario: Scenario) -> list[str]:
    """Send the records, and return the differences as lines; empty when there are none."""
    lines: list[str] = []
    for record in scenario.given:
        if record.wait is not None:
            driver.wait(record.wait)
            continue
        if record.topic not in driver.topics:
            return [f"topic {record.topic} is not read by the application; it reads {', '.join(driver.topics)}"]
        driver.send(record.topic, record.value, record.key, record.time)
    for topic, expected in scenario.expect.items():
        if topic not in driver.outputs:
            lines.append(f"topic {topic} is not written by the application; it writes {', '.join(driver.outputs)}")
        else:
            lines += _differences(topic, expected, driver.outputs[topic])
    codes = [failure.error.code for failure in driver.refused]
    if codes != scenario.refused:
        lines.append(f"refused records: expected {scenario.refused or 'none'}, got {codes or 'none'}")
        lines += [f"  offset {item.offset} of {item.topic_partition.topic}: {item.error}" for item in driver.refused]
    return lines


def _differences(topic: str, expected: Sequence[ExpectedRecord], actual: Sequence[DrivenRecord]) -> list[str]:
    wanted = [_given_fields(record) for record in expected]
    compared = []
    for number, record in enumerate(actual):
        fields = {"key": record.key, "value": record.value, "time": record.timestamp}
        names = wanted[number] if number < len(wanted) else ("key", "value")
        compared.append({name: fields[name] for name in names})
    if wanted == compared:
        return []
    lines = difflib.unified_diff(
        list(map(_text, wanted)), list(map(_text, compared)), f"{topic}: expected", f"{topic}: written", lineterm=""
    )
    return list(lines)


def _given_fields(record: ExpectedRecord) -> Mapping[str, Any]:
    return {name: getattr(record, name) for name in ("key", "value", "time") if name in record.model_fields_set}


def _text(record: Mapping[str, Any]) -> str:
    return orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
