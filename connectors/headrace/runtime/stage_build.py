"""Creates a task's converters and transforms from its connector's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.stages import Stages
from headrace.pipeline.transformations import Step
from headrace.plugin import Converter, Predicate
from headrace.registry import PluginKind, Registry
from headrace.settings import ConnectorSettings, WorkerSettings
from headrace.validation import make_converter


def make_stages(registry: Registry, worker: WorkerSettings, settings: ConnectorSettings, policy: FaultPolicy) -> Stages:
    """Return the transforms and converters of one task. Raise ConfigError; the stages configured before are closed."""
    with ExitStack() as opened:
        key_converter = _converter(registry, worker, settings, is_key=True)
        opened.callback(key_converter.close)
        value_converter = _converter(registry, worker, settings, is_key=False)
        opened.callback(value_converter.close)
        stages = Stages(key_converter, value_converter, _steps(registry, settings, opened), policy)
        opened.pop_all()
        return stages


def group_of(connector: str) -> str:
    """Return the default consumer group of a sink, as in Kafka Connect."""
    return f"connect-{connector}"


def _converter(registry: Registry, worker: WorkerSettings, settings: ConnectorSettings, *, is_key: bool) -> Converter:
    """Return the connector's converter with its settings, else the worker's converter with the worker's settings."""
    mine = settings.key_converter if is_key else settings.value_converter
    if mine is not None:
        own = settings.key_converter_settings if is_key else settings.value_converter_settings
        return make_converter(registry, mine, own, is_key=is_key)
    name = worker.key_converter if is_key else worker.value_converter
    options = worker.key_converter_settings if is_key else worker.value_converter_settings
    return make_converter(registry, name, options, is_key=is_key)


def _steps(registry: Registry, settings: ConnectorSettings, opened: ExitStack) -> list[Step]:
    predicates: dict[str, Predicate] = {}
    for alias in settings.predicates:
        kind, options = _aliased(settings.predicate_settings, alias)
        predicates[alias] = registry.find(PluginKind.PREDICATE, kind).cls()
        predicates[alias].configure(options)
        opened.callback(predicates[alias].close)
    steps = []
    for alias in settings.transforms:
        kind, options = _aliased(settings.transform_settings, alias)
        gate, negate = options.pop("predicate", None), options.pop("negate", "false").lower() == "true"
        transform = registry.find(PluginKind.TRANSFORM, kind).cls()
        transform.configure(options)
        opened.callback(transform.close)
        steps.append(Step(transform, predicates[gate] if gate is not None else None, negate))
    return steps


def _aliased(settings: Mapping[str, str], alias: str) -> tuple[str, dict[str, str]]:
    """Return ``<alias>.type`` and the other settings of the alias."""
    options = {key.removeprefix(f"{alias}."): value for key, value in settings.items() if key.startswith(f"{alias}.")}
    return options.pop("type"), options
