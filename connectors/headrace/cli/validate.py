"""``headrace validate`` and ``headrace check``: problems of configuration files and of the systems they name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.application_checks import (
    SampleLookup,
    column_findings,
    permission_findings,
    topics_of,
    topology_of,
)
from headrace.cli.group_access import GroupLookup, group_findings
from headrace.cli.loading import Loaded, load
from headrace.cli.output import JsonFlag, err, finding_view, out, print_findings, print_json
from headrace.errors import ConfigError, Finding, HeadraceError, RetriableError
from headrace.files import ConfigFile, read_config_file
from headrace.pair_checks import KafkaTopic, LocatedFinding, Produced, named_topics, pair_findings, reads_topic
from headrace.plugin import ProducedTopic, SourceConnector
from headrace.records import ConsumedBatch
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig, locate_findings

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        help="YAML, JSON or .properties; a connector's (with connector.class) or a worker's.",
    ),
]
AdminCheck = Callable[[Mapping[str, str]], str]
"""Kafka client settings → the cluster's id. Raises as ``broker/interfaces.py`` says. Tests pass one as the ``obj`` of
click's context."""

TopicLookup = Callable[[Set[str], Callable[[str], bool]], Mapping[str, KafkaTopic]]
"""Given names of topics, and a predicate of further ones: what Kafka tells about each."""

WorkerGroupLookup = Callable[[WorkerSettings], Sequence[Finding]]
"""What is wrong with the topics and the ACLs of the worker's group."""

_MISTAKE, _ENVIRONMENT = 2, 3  # exit codes


def validate(files: Files, json: JsonFlag = False) -> None:
    """Check configuration files without connecting to any system. Reports all problems at once, with location and hint.

      headrace validate worker.yaml connectors/*.yaml

    Placeholders such as ${env:NAME} are resolved, so run it with the worker's environment variables.

    Exit code 0: no errors (there may be warnings). 2: fix the files. To check the systems as well (Kafka, databases,
    Elasticsearch), use `headrace check`.
    """
    loaded = load(files)
    findings = [*loaded.findings, *_compared(loaded, *_sides(loaded, connect=False))]
    _report(findings, json)
    if _errors(findings):
        raise typer.Exit(_MISTAKE)
    if not json:
        out.print(_valid(files, loaded))


def check(context: typer.Context, files: Files, json: JsonFlag = False) -> None:
    """Validate files, then check the systems they name: Kafka, databases, tables, Elasticsearch. Changes nothing.

      headrace check worker.yaml connectors/*.yaml

    Exit code 0: no errors (there may be warnings). 2: fix the files. 3: a system is unavailable or refuses access.
    """
    findings = check_files(files, context.obj)
    _report(findings, json)
    if errors := _errors(findings):
        raise typer.Exit(_MISTAKE if any(item.cause == "configuration" for item in errors) else _ENVIRONMENT)


def check_files(
    paths: Sequence[Path],
    admin_check: AdminCheck | None = None,
    topic_lookup: TopicLookup | None = None,
    group_lookup: GroupLookup | None = None,
    sample_lookup: SampleLookup | None = None,
    worker_group_lookup: WorkerGroupLookup | None = None,
) -> list[Finding]:
    """Return the findings of ``check``; progress goes to stderr.

    ``admin_check``, ``topic_lookup``, ``group_lookup``, ``sample_lookup`` and ``worker_group_lookup`` replace requests
    to Kafka.
    """
    loaded = load(paths)
    if _errors(loaded.findings):
        return loaded.findings
    findings = list(loaded.findings)
    if loaded.settings is None:
        err.print("Kafka is not checked: none of the files is a worker's")
    else:
        place = next(file for file in map(read_config_file, paths) if not file.is_connector)
        findings += _with_progress(f"Kafka at {loaded.settings.bootstrap_servers}", place, _kafka(loaded, admin_check))
        if (group := loaded.settings.group_id) and not findings and (worker_group_lookup or not admin_check):
            look_up = worker_group_lookup or _look_up_worker_group
            findings += _with_progress(f"worker group {group}", place, partial(look_up, loaded.settings))
    for file in loaded.files:
        config = loaded.configs[file.properties["name"].strip()]
        connector = config.plugin.cls()
        label = f"connector {config.name} ({config.plugin.name})"
        findings += _with_progress(label, file, partial(connector.check, config.own))
    answers = loaded.settings is not None and not any(finding.code.startswith("kafka.") for finding in findings)
    sources, sinks = _sides(loaded, connect=True)
    topics: Mapping[str, KafkaTopic] = {}
    if answers and (topic_lookup or not admin_check):
        topics = _kafka_topics(loaded, sources, sinks, topic_lookup)
    if answers and (group_lookup or not admin_check):
        findings += _kafka_groups(loaded, group_lookup)
    samples = _samples(loaded, sample_lookup) if answers and (sample_lookup or not admin_check) else {}
    findings += _applications(loaded, sources, topics, samples)
    return findings + _compared(loaded, sources, sinks, topics)


def _look_up_worker_group(settings: WorkerSettings) -> Sequence[Finding]:
    from headrace.app import look_up_worker_group  # late: --help needs no Kafka client

    return look_up_worker_group(settings)


def _streams(loaded: Loaded) -> list[ConnectorConfig]:
    return [config for config in loaded.configs.values() if config.plugin.type == "stream"]


def _samples(loaded: Loaded, sample_lookup: SampleLookup | None) -> Mapping[str, Sequence[ConsumedBatch]]:
    """Return the newest records of the topics that stream applications read."""
    topologies = map(topology_of, _streams(loaded))
    topics = sorted({topic for topology in topologies for topic in (*topology.inputs, *topology.tables)})
    if not topics:
        return {}
    from headrace.app import sample_topics  # late: --help needs no Kafka client

    try:
        return (sample_lookup or partial(sample_topics, loaded.require()))(topics)
    except HeadraceError as error:
        err.print(f"records of topics are not read: {error}", markup=False)
        return {}


def _applications(
    loaded: Loaded,
    sources: Sequence[Produced],
    topics: Mapping[str, KafkaTopic],
    samples: Mapping[str, Sequence[ConsumedBatch]],
) -> list[Finding]:
    """Return the findings about the topics of stream applications."""
    if loaded.settings is None:
        return []
    found: list[LocatedFinding] = []
    for config in _streams(loaded):
        found += permission_findings(config, loaded.settings, topics)
        found += column_findings(config, loaded.settings, loaded.registry, sources, samples)
    return _located(loaded, found)


def _kafka_groups(loaded: Loaded, group_lookup: GroupLookup | None) -> list[Finding]:
    """Return the findings about the consumer groups of these connectors."""
    from headrace.app import look_up_groups  # late: --help needs no Kafka client

    settings = loaded.require()
    client_settings = {**settings.client_settings(), **settings.admin}
    ask = group_lookup or partial(look_up_groups, client_settings, settings.kafka_client)
    try:
        return _located(loaded, group_findings(loaded.configs.values(), settings, ask))
    except HeadraceError as error:
        err.print(f"consumer groups are not checked: {error}", markup=False)
        return []


def _kafka_topics(
    loaded: Loaded, sources: Sequence[Produced], sinks: Sequence[ConnectorConfig], topic_lookup: TopicLookup | None
) -> Mapping[str, KafkaTopic]:
    """Return what Kafka tells about the topics of these connectors."""
    from headrace.app import look_up_topics  # late: --help needs no Kafka client

    settings = loaded.require()
    written = {topic.name for produced in sources for topic in produced.topics}
    named = written.union(*map(named_topics, sinks), *map(topics_of, _streams(loaded)))

    def wanted(topic: str) -> bool:
        return any(reads_topic(sink, topic) for sink in sinks)

    try:
        if topic_lookup is not None:
            found = topic_lookup(named, wanted)
        else:
            client_settings = {**settings.client_settings(), **settings.admin}
            found = look_up_topics(client_settings, settings.kafka_client, named, wanted)
    except HeadraceError as error:
        err.print(f"topics are not checked: {error}", markup=False)
        return {}
    visible = {name for name, topic in found.items() if topic.partitions}
    if hidden := sorted(name for name in written & visible if found[name].cleanup_policy is None):
        text = f"cleanup.policy is not checked of {', '.join(hidden)}: this needs DESCRIBE_CONFIGS on these topics"
        err.print(text, markup=False)
    return found


def _sides(loaded: Loaded, *, connect: bool) -> tuple[list[Produced], list[ConnectorConfig]]:
    """Return the sources and the sinks of these files; ``connect``: inspect the tables, too."""
    sources, sinks = [], []
    for config in loaded.configs.values():
        if config.plugin.type == "source":
            sources.append(Produced(config, _produced_topics(config, connect=connect)))
        elif config.plugin.type == "sink":
            sinks.append(config)
    return sources, sinks


def _compared(
    loaded: Loaded,
    sources: Sequence[Produced],
    sinks: Sequence[ConnectorConfig],
    topics: Mapping[str, KafkaTopic] | None = None,
) -> list[Finding]:
    """Return the findings about the sources and the sinks of these files."""
    return _located(loaded, pair_findings(sources, sinks, loaded.settings, loaded.registry, topics))


def _located(loaded: Loaded, findings: Iterable[LocatedFinding]) -> list[Finding]:
    """Return findings of connectors with the places in their files."""
    found: dict[str, list[Finding]] = {}
    for name, finding in findings:
        found.setdefault(name, []).append(finding)
    files = {file.properties["name"].strip(): file for file in reversed(loaded.files) if "name" in file.properties}
    return [
        finding
        for name, own in found.items()
        for finding in locate_findings(own, files[name].positions, files[name].path, files[name].texts)
    ]


def _produced_topics(config: ConnectorConfig, *, connect: bool) -> Sequence[ProducedTopic]:
    connector: SourceConnector = config.plugin.cls()
    if connect:
        try:
            return connector.produced_topics(config.own, connect=True)
        except HeadraceError:
            pass  # `check` reports it; the file's own keys are compared nevertheless
    return connector.produced_topics(config.own, connect=False)


def _report(findings: Iterable[Finding], json: bool) -> None:
    findings = list(findings)
    if json:
        print_json({"valid": not _errors(findings), "findings": [_placed_view(finding) for finding in findings]})
    else:
        print_findings(findings)


def _placed_view(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        **finding_view(finding),
        "file": place.file if place else None,
        "line": place.line if place else None,
        "column": place.column if place else None,
    }


def _errors(findings: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.severity == "error"]


def _valid(files: Sequence[Path], loaded: Loaded) -> str:
    names = ", ".join(loaded.configs)
    parts = [f"connectors {names}"] if names else []
    parts += ["a worker"] if loaded.settings is not None else []
    return f"{len(files)} {'file is' if len(files) == 1 else 'files are'} valid: {' and '.join(parts)}"


def _kafka(loaded: Loaded, admin_check: AdminCheck | None) -> Callable[[], Iterable[Finding]]:
    def ask() -> Iterable[Finding]:
        settings = loaded.require()
        client_settings = {**settings.client_settings(), **settings.admin}
        try:
            if admin_check is not None:
                admin_check(client_settings)
            else:
                from headrace.app import kafka_admin_check  # late: --help needs no Kafka client

                kafka_admin_check(client_settings, settings.kafka_client)
        except RetriableError as error:
            finding = error.finding("bootstrap.servers")
            return [replace(finding, hint=finding.hint or "check that Kafka is running, and its host and port")]
        return ()

    return ask


def _with_progress(label: str, file: ConfigFile, ask: Callable[[], Iterable[Finding]]) -> list[Finding]:
    err.print(f"checking {label} …", end=" ", markup=False)
    try:
        found = list(ask())
    except HeadraceError as error:
        own = error.findings if isinstance(error, ConfigError) else ()
        key = "" if file.is_connector else "bootstrap.servers"
        found = list(own) or [error.finding(key)]
    errors = len(_errors(found))
    numbers = (("error", errors), ("warning", len(found) - errors))
    counts = [f"{number} {word}{'' if number == 1 else 's'}" for word, number in numbers if number]
    err.print(", ".join(counts) or "ok")
    return locate_findings(found, file.positions, file.path, file.texts)
