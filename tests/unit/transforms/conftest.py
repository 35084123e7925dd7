"""Stages of tasks, made from configurations as a worker makes them."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import pytest
import structlog

from headrace.interpolation import make_interpolator
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.registry import Registry
from headrace.runtime.stage_build import make_stages
from headrace.settings import WorkerSettings
from headrace.validation import Validator


class StageMaker:
    """Makes the stages of a sink's or source's task."""

    def __init__(self, worker: WorkerSettings | None = None) -> None:
        self.registry = Registry()
        self.validator = Validator(self.registry, make_interpolator(self.registry))
        self.worker = worker or WorkerSettings.parse({"bootstrap.servers": "b:1"})

    def __call__(self, properties: Mapping[str, str]) -> Stages:
        config = self.validator.require_connector({"value.converter": "JsonConverter", **properties})
        log = structlog.stdlib.get_logger("test")
        policy = FaultPolicy(config.settings, lambda key: key, threading.Event(), log, TaskMetrics())
        return make_stages(self.registry, self.worker, config.settings, policy)

    def sink(self, properties: Mapping[str, str]) -> Stages:
        plain = {"key.converter": "StringConverter", "value.converter.schemas.enable": "false"}
        return self({"name": "s", "connector.class": "ConsoleSink", "topics": "t", **plain, **properties})

    def source(self, properties: Mapping[str, str]) -> Stages:
        return self({"name": "s", "connector.class": "DatagenSource", "topic": "t", **properties})


@pytest.fixture(scope="session")
def stage_maker() -> StageMaker:
    return StageMaker()
