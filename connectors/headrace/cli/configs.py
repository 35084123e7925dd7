"""Commands about configurations and plugins: ``validate``, ``check``, ``plugins``, ``schema``."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.loading import Loaded, load
from headrace.cli.output import JsonFlag, err, out, print_findings, print_json, print_table
from headrace.errors import ConfigError, Finding, HeadraceError, RetriableError
from headrace.files import ConfigFile, read_config_file
from headrace.plugin_docs import json_schema
from headrace.registry import Kind, Plugin, Registry
from headrace.validation import located

Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="YAML, JSON or .properties; with connector.class a connector's, else the worker's."
    ),
]
AdminCheck = Callable[[Mapping[str, str]], str]
"""Kafka client settings → the cluster's id. Raises as ``broker/interfaces.py`` says."""

_MISTAKE, _ENVIRONMENT = 2, 3  # exit codes


def validate(files: Files, json: JsonFlag = False) -> None:
    """Check files without touching any system: every mistake at once, each with its place and how to mend it.

      headrace validate worker.yaml connectors/*.yaml

    Placeholders such as ${env:NAME} are resolved, so run it with the worker's environment. Warnings do not fail.
    `headrace check` goes on to ask Kafka and the databases themselves.
    """
    loaded = load(files)
    _report(loaded.findings, json)
    if _errors(loaded.findings):
        raise typer.Exit(_MISTAKE)
    if not json:
        out.print(_valid(files, loaded))


def check(files: Files, json: JsonFlag = False) -> None:
    """Validate files, then try the systems they name: Kafka, databases, tables, Elasticsearch. Changes nothing.

      headrace check worker.yaml connectors/*.yaml

    Exit code 2: something in the files must change. 3: a system is away or refuses. Warnings do not fail.
    """
    findings = check_files(files)
    _report(findings, json)
    if errors := _errors(findings):
        raise typer.Exit(_MISTAKE if any(item.cause == "configuration" for item in errors) else _ENVIRONMENT)


def check_files(paths: Sequence[Path], admin_check: AdminCheck | None = None) -> list[Finding]:
    """What ``check`` finds; progress goes to stderr. ``admin_check`` stands in for Kafka's."""
    loaded = load(paths)
    if _errors(loaded.findings):
        return loaded.findings
    findings = list(loaded.findings)
    if loaded.settings is None:
        err.print("Kafka is not checked: no worker's file is among the files")
    else:
        place = next(file for file in map(read_config_file, paths) if not file.is_connector)
        findings += _with_progress(f"Kafka at {loaded.settings.bootstrap_servers}", place, _kafka(loaded, admin_check))
    for file in loaded.files:
        config = loaded.configs[file.properties["name"].strip()]
        connector = config.plugin.cls()
        label = f"connector {config.name} ({config.plugin.name})"
        findings += _with_progress(label, file, partial(connector.check, config.own))
    return findings


def plugins(json: JsonFlag = False) -> None:
    """Installed plugins: connectors, converters, transforms, predicates, config providers.

      headrace plugins

    `headrace describe NAME` shows the keys of one.
    """
    views = [_plugin_view(plugin) for kind in Kind for plugin in Registry().plugins(kind)]
    if json:
        print_json(views)
        return
    rows = [(view["name"], view["type"], view["version"], ", ".join(view["aliases"])) for view in views]
    print_table(("name", "type", "version", "also answers to"), rows)
    for view in views:
        if view["error"]:
            err.print(f"{view['name']}: {view['error']}", style="red", markup=False)


def schema(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here, not to stdout.")
    ] = None,
) -> None:
    """JSON Schema of connector and worker files, so that editors complete keys and mark mistakes.

      headrace schema --output headrace.schema.json

    then write as the first line of a YAML file:  # yaml-language-server: $schema=headrace.schema.json
    """
    text = json_format.dumps(json_schema(Registry()), indent=2, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(
            f"{output} cannot be written: {reason}", code="cli.output", hint="choose another place"
        ) from error
    err.print(f"wrote {output}; first line of a YAML file: # yaml-language-server: $schema={output}", markup=False)


def _report(findings: Iterable[Finding], json: bool) -> None:
    findings = list(findings)
    if json:
        print_json({"valid": not _errors(findings), "findings": [_finding_view(finding) for finding in findings]})
    else:
        print_findings(findings)


def _finding_view(finding: Finding) -> dict[str, Any]:
    place = finding.location
    return {
        "severity": finding.severity,
        "code": finding.code,
        "key": finding.key,
        "message": finding.message,
        "hint": finding.hint,
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
            return [replace(finding, hint=finding.hint or "is it running, and are host and port right?")]
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
    return located(found, file.positions, file.path)


def _plugin_view(plugin: Plugin) -> dict[str, Any]:
    view: dict[str, Any] = {"name": plugin.name, "type": plugin.kind.word, "class": "", "version": "", "aliases": []}
    try:
        aliases = list(plugin.cls.aliases)
        return view | {
            "type": plugin.type,
            "class": plugin.class_name,
            "version": plugin.version,
            "aliases": aliases,
            "error": "",
        }
    except ConfigError as error:
        return view | {"error": str(error)}
