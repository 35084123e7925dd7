"""Creates a task's converters and transforms from its connector's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.sink_headers import HeaderTexts
from headrace.pipeline.stages import Stages
from headrace.pipeline.tap import CONVERTED, POLLED, READ, WRITTEN, TaskTap, step_stage
from headrace.pipeline.transformations import Step
from headrace.plugin import Converter, Predicate, Transform
from headrace.registry import PluginKind, Registry
from headrace.settings import ConnectorSettings, SinkSettings, SourceSettings, WorkerSettings
from headrace.validation import CONVERTERS, make_converter

_TEXTS = "SimpleHeaderConverter"


def make_stages(
    registry: Registry,
    worker: WorkerSettings,
    settings: ConnectorSettings,
    policy: FaultPolicy,
    tap: TaskTap | None = None,
) -> Stages:
    """Return the transforms and converters of one task. Raise ConfigError; the stages configured before are closed.

    ``tap`` is told the names of the stages.
    """
    with ExitStack() as opened:
        keys, values, headers = (_converter(registry, worker, settings, name, opened) for name in CONVERTERS)
        header_texts = None
        if isinstance(settings, SourceSettings):
            steps = _steps(registry, settings, opened, headers)
        else:
            steps = _steps(registry, settings, opened, None)
            if isinstance(settings, SinkSettings) and not headers.reads_texts:
                plain = make_converter(registry, _TEXTS, {}, is_key=False, kind=PluginKind.HEADER_CONVERTER)
                header_texts = HeaderTexts(headers, plain)
        tap = tap if tap is not None else TaskTap()
        tap.stages = _stage_names(settings)
        stages = Stages(keys, values, steps, policy, headers, header_texts, tap)
        opened.pop_all()
        return stages


def _stage_names(settings: ConnectorSettings) -> tuple[str, ...]:
    """Return the stages at which records can be shown. Those of a stream application are its steps."""
    steps = [step_stage(alias) for alias in settings.transforms]
    if isinstance(settings, SourceSettings):
        return (POLLED, *steps, WRITTEN)
    return (READ, CONVERTED, *steps, WRITTEN) if isinstance(settings, SinkSettings) else ()


def group_of(connector: str) -> str:
    """Return the default consumer group of a sink, as in Kafka Connect."""
    return f"connect-{connector}"


def _converter(
    registry: Registry, worker: WorkerSettings, settings: ConnectorSettings, key: str, opened: ExitStack
) -> Converter:
    """Return the connector's converter with its settings, else the worker's converter with the worker's settings."""
    name = key.replace(".", "_")
    chosen: ConnectorSettings | WorkerSettings = settings if getattr(settings, name) is not None else worker
    options = getattr(chosen, f"{name}_settings")
    is_key = key == "key.converter"
    made = make_converter(registry, getattr(chosen, name), options, is_key=is_key, kind=CONVERTERS[key])
    opened.callback(made.close)
    return made


def _steps(
    registry: Registry, settings: ConnectorSettings, opened: ExitStack, header_converter: Converter | None
) -> list[Step]:
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
        transform: Transform = registry.find(PluginKind.TRANSFORM, kind).cls()
        transform.header_converter = header_converter
        transform.configure(options)
        opened.callback(transform.close)
        steps.append(Step(transform, predicates[gate] if gate is not None else None, negate, alias))
    return steps


def _aliased(settings: Mapping[str, str], alias: str) -> tuple[str, dict[str, str]]:
    """Return ``<alias>.type`` and the other settings of the alias."""
    options = {key.removeprefix(f"{alias}."): value for key, value in settings.items() if key.startswith(f"{alias}.")}
    return options.pop("type"), options
