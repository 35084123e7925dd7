"""``headrace migrate``: what would become of a cluster of Kafka Connect's JVM workers, before it is taken over."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from headrace.broker.connector_clients import OverridePolicy
from headrace.broker.interfaces import KafkaClients
from headrace.cli.migration_report import (
    TOPIC_KEYS,
    MigrationReport,
    offset_view,
    position_text,
    print_report,
    report_view,
)
from headrace.cli.output import JsonFlag, err, out, print_json, redact_output
from headrace.errors import CommandError, ConfigError, Finding, HeadraceError
from headrace.files import ConfigFile, parse_config_file
from headrace.interpolation import make_interpolator
from headrace.local_access import LocalAccess
from headrace.migration.assessment import assess
from headrace.migration.connect_state import ConnectState, GroupTopicNames, read_state
from headrace.migration.java_offsets import read_java_offsets
from headrace.migration.offset_import import ImportedOffsets, import_offsets, parse_entries
from headrace.records import TopicPartition
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.stores.log import FileLog
from headrace.validation import ConnectorConfig, Validator, locate_findings

_NOT_READY = 1  # exit code


def migrate(
    context: typer.Context,
    from_connect: Annotated[
        Path | None,
        typer.Option("--from-connect", metavar="FILE", help="The .properties file of a distributed JVM worker."),
    ] = None,
    bootstrap: Annotated[
        str | None,
        typer.Option("--bootstrap", metavar="HOST:PORT", help="Without that file: Kafka, if it needs no login."),
    ] = None,
    topics: Annotated[
        str | None,
        typer.Option("--topics", metavar="NAMES", help="Then also: the config, offset and status topic, with commas."),
    ] = None,
    connect: Annotated[
        bool,
        typer.Option("--connect", help="Also ask the databases and other systems of the connectors."),
    ] = False,
    offsets_file: Annotated[
        Path | None,
        typer.Option("--offsets-file", metavar="FILE", help="Read the offset file of a standalone JVM worker instead."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", metavar="FILE", help="Import it into this offset file of headrace."),
    ] = None,
    json: JsonFlag = False,
) -> None:
    """Say what headrace would do with the connectors of a Kafka Connect cluster. Reads three topics, changes nothing.

      headrace migrate --from-connect connect-distributed.properties

      headrace migrate --bootstrap kafka:9092 --topics connect-configs,connect-offsets,connect-status

    For each connector: whether it runs unchanged, with which differences, or why not; from which positions it
    continues, and which ones headrace would not use, so that their rows would be read again. Then: what to do, in
    which order.

    The positions of a standalone JVM worker are in a file of Java objects. Show and import them:

      headrace migrate --offsets-file connect.offsets --into offsets.jsonl

    Exit code 0: every connector runs and continues. 1: some cannot run, or would read something again. 2: fix the
    command or the files. 3: Kafka is unavailable or refuses access.
    """
    if offsets_file is not None:
        _import(offsets_file, into, json=json)
        return
    if into is not None:
        raise _usage("--into needs --offsets-file", "name the offset file of the JVM worker, too")
    registry = Registry()
    settings, validator, findings = _worker(registry, from_connect, bootstrap, topics)
    names = _topics(settings)
    clients: KafkaClients = context.obj or _open_clients(settings)
    err.print(f"reading {', '.join(names)} …", markup=False)
    state = _read(clients, settings, names)

    def committed(config: ConnectorConfig, group: str) -> Mapping[TopicPartition, int]:
        from headrace.broker.connector_clients import ConnectorClients

        with closing(ConnectorClients(clients, settings, config.settings).admin()) as admin:
            return admin.committed(group)

    found = assess(state, validator, committed=committed, consumer=settings.consumer, connect=connect)
    report = MigrationReport(settings.group_id if from_connect else None, names, state, found, findings)
    if json:
        print_json(report_view(report))
    else:
        print_report(report)
    if not report.ready:
        raise typer.Exit(_NOT_READY)


def _worker(
    registry: Registry, file: Path | None, bootstrap: str | None, topics: str | None
) -> tuple[WorkerSettings, Validator, list[Finding]]:
    """Return the settings of the worker, and what headrace finds about its file. Keys with errors are left out."""
    validator = Validator(registry, make_interpolator(registry))
    redact_output(validator.secrets.everywhere)
    if file is not None:
        if bootstrap is not None or topics is not None:
            raise _usage("--from-connect names Kafka and the topics already", "leave out --bootstrap and --topics")
        source = parse_config_file(file)
        if source.is_connector:
            raise _usage(f"{file} is a connector's file: it has connector.class", "name the worker's file")
    elif bootstrap is None or topics is None:
        raise _usage("no cluster is named", "give --from-connect FILE, or --bootstrap and --topics")
    else:
        source = ConfigFile("", {"bootstrap.servers": bootstrap, **_topic_settings(topics)}, {})
    settings, findings = validator.worker(source.properties)
    if settings is None:
        wrong = {finding.key for finding in findings if finding.severity == "error"}
        rest = {name: value for name, value in source.properties.items() if name not in wrong}
        settings, remaining = validator.worker(rest)
        if settings is None:
            raise ConfigError(findings=locate_findings(remaining, source.positions, source.path, source.texts))
    interpolator = make_interpolator(registry, settings.config_providers, settings.config_provider_settings)
    policy, access = OverridePolicy.of(settings), LocalAccess.of(settings)
    own = Validator(registry, interpolator, policy, validator.secrets, access)
    findings = [*source.findings, *locate_findings(findings, source.positions, source.path, source.texts)]
    return settings, own, findings if file is not None else []


def _topic_settings(topics: str) -> dict[str, str]:
    names = [name.strip() for name in topics.split(",")]
    if len(names) != 3 or not all(names):
        raise _usage(
            f"--topics has {len(names)} names", "give the config, the offset and the status topic, in this order"
        )
    return {"group.id": "connect-cluster", **dict(zip(TOPIC_KEYS, names, strict=True))}


def _topics(settings: WorkerSettings) -> GroupTopicNames:
    if not (settings.config_topic and settings.offset_topic and settings.status_topic):
        raise _usage(
            "the file is a standalone worker's: it names no topics",
            "`headrace validate` checks the files of its connectors, and --offsets-file imports its positions",
        )
    return GroupTopicNames(settings.config_topic, settings.offset_topic, settings.status_topic)


def _read(clients: KafkaClients, settings: WorkerSettings, names: GroupTopicNames) -> ConnectState:
    from headrace.cli.topic_reading import read_to_ends  # late: --help needs no Kafka client

    batches = read_to_ends(
        lambda: clients.admin(settings.admin),
        lambda: clients.reader({**settings.consumer, "isolation.level": "read_committed"}),
        names,
        committed=True,
        hint=f"check {', '.join(TOPIC_KEYS)}, and bootstrap.servers",
    )
    return read_state(batches, names)


def _open_clients(settings: WorkerSettings) -> KafkaClients:
    from headrace.broker.client_choice import choose

    return choose(settings.kafka_client).open(settings.client_settings())


def _usage(text: str, hint: str) -> HeadraceError:
    return CommandError(text, code="cli.usage", hint=hint)


# The offset file of a standalone worker


def _import(file: Path, into: Path | None, *, json: bool) -> None:
    try:
        data = file.read_bytes()
    except OSError as error:
        text = f"{file} cannot be read: {error.strerror}"
        raise ConfigError(text, code="config.file", hint="check the path and its permissions") from error
    found = parse_entries(read_java_offsets(data, str(file)), str(file))
    if into is not None:
        with closing(FileLog(into)) as log:
            found = import_offsets(found, log, str(into))
    if json:
        print_json(_imported_view(found, into))
        return
    for name, items in sorted(found.offsets.items()):
        out.print(Text(name, style="bold"))
        for item in items:
            out.print(Text(f"  {position_text(item)}"))
    count = sum(map(len, found.offsets.values()))
    if into is None:
        err.print(f"{count} offsets; nothing was written: --into FILE imports them", markup=False)
    else:
        err.print(f"{count} offsets, {found.written} of them new in {into}", markup=False)


def _imported_view(found: ImportedOffsets, into: Path | None) -> dict[str, Any]:
    offsets = {name: [offset_view(item) for item in items] for name, items in sorted(found.offsets.items())}
    return {"offsets": offsets, "into": str(into) if into is not None else None, "written": found.written}
