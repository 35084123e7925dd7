"""Creates or checks lifecycle policy, component templates and index template before any index exists."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog

from headrace import InfrastructureError
from headrace_sinks.elasticsearch.cluster.index_catalog import IndexCatalog, LookupDeniedError, path
from headrace_sinks.elasticsearch.configuration.index_keys import IndexKeys
from headrace_sinks.elasticsearch.mappings.compatibility import covers

MANAGED_BY = {"managed_by": "headrace"}
_NOT_VISIBLE: dict[str, Any] = {}
"""Stands for a resource that the user may not read."""


class TemplatePart(NamedTuple):
    """One resource. ``desired`` is compared with the existing one; ``body`` is sent."""

    title: str
    place: str
    body: dict[str, Any]
    desired: dict[str, Any]


class TemplateProvisioner:
    """Provisions the resources named in ``index.template`` and ``index.lifecycle.policy``."""

    def __init__(
        self, catalog: IndexCatalog, config: IndexKeys, log: structlog.stdlib.BoundLogger, *, dry_run: bool = False
    ) -> None:
        self._catalog = catalog
        self._config = config
        self._log = log
        self._dry_run = dry_run

    def steps(self, patterns: Sequence[str], *, data_stream: bool = False) -> Iterator[Callable[[], None]]:
        """Yield steps that create missing resources and update headrace's own, or only compare (``check``).

        They raise InfrastructureError, TaskError, RetriableError.
        """
        if self._config.lifecycle_policy:
            yield self._keep_policy
        if self._config.index_template:
            for part in self._components():
                yield partial(self._provision_part, part)
            yield lambda: self._provision_part(self._template(patterns, data_stream))

    def _keep_policy(self) -> None:
        name, phases = self._config.lifecycle_policy, self._config.phases()
        place = f"/_ilm/policy{path(name)}"
        if phases:
            body = {"policy": {"_meta": MANAGED_BY, "phases": phases}}
            self._provision_part(
                TemplatePart(f"lifecycle policy '{name}'", place, body, {"policy": {"phases": phases}})
            )
        elif self._fetch(f"lifecycle policy '{name}'", place) is None:
            raise InfrastructureError(
                f"there is no lifecycle policy '{name}'",
                code="elasticsearch.policy_missing",
                hint="create it, or define it with 'index.lifecycle.rollover.max.age' and "
                "'index.lifecycle.delete.after'",
            )

    def _components(self) -> list[TemplatePart]:
        name = self._config.index_template
        bodies = {
            f"{name}@settings": {"settings": self._config.new_index_settings()},
            f"{name}@mappings": {"mappings": self._config.declared()},
        }
        return [
            TemplatePart(
                f"component template '{each}'",
                f"/_component_template{path(each)}",
                {"_meta": MANAGED_BY, "template": template},
                {"component_template": {"template": template}},
            )
            for each, template in bodies.items()
        ]

    def _template(self, patterns: Sequence[str], data_stream: bool) -> TemplatePart:
        config, name = self._config, self._config.index_template
        composed = [f"{name}@settings", f"{name}@mappings"]
        custom = f"{name}@custom"
        if self._fetch(f"component template '{custom}'", f"/_component_template{path(custom)}"):
            composed.append(custom)
        template: dict[str, Any] = {}
        if config.index_aliases:
            template["aliases"] = {alias: {} for alias in config.index_aliases}
        if config.data_stream_retention:
            template["lifecycle"] = {"data_retention": config.data_stream_retention}
        body: dict[str, Any] = {
            "index_patterns": list(config.index_template_patterns or patterns),
            "composed_of": composed,
            "priority": config.index_template_priority,
        }
        if template:
            body["template"] = template
        if data_stream or config.data_stream_retention:
            body["data_stream"] = {}
        desired = {"index_template": body}
        return TemplatePart(
            f"index template '{name}'", f"/_index_template{path(name)}", {**body, "_meta": MANAGED_BY}, desired
        )

    def _provision_part(self, part: TemplatePart) -> None:
        present = self._fetch(part.title, part.place)
        if present is _NOT_VISIBLE or (present is not None and covers(present, part.desired)):
            return
        if self._config.index_management == "check":
            state = "does not exist" if present is None else "differs from the configuration"
            raise InfrastructureError(
                f"{part.title} {state}",
                code="elasticsearch.template_missing" if present is None else "elasticsearch.template_differs",
                hint="set index.management: create, or change it to match the configuration",
            )
        if present is not None and not _is_managed(present):
            raise InfrastructureError(
                f"{part.title} exists, differs from the configuration, and was not created by headrace",
                code="elasticsearch.template_taken",
                hint="choose another name, make the two equal, or remove it",
            )
        if self._dry_run:
            return
        self._catalog.put(part.place, part.body, part.title)
        self._log.info("created" if present is None else "changed", what=part.title)

    def _fetch(self, title: str, place: str) -> dict[str, Any] | None:
        """Return the resource without Elasticsearch's wrapper; None when it does not exist."""
        try:
            content = self._catalog.get(f"{place}?flat_settings=true" if "template" in place else place)
        except LookupDeniedError as error:
            self._log.warning("not checked", what=title, reason=str(error))
            return _NOT_VISIBLE
        if content is None:
            return None
        for wrapper in ("component_templates", "index_templates"):
            if wrapper in content:
                found: list[dict[str, Any]] = content[wrapper]
                return found[0] if found else None
        return next(iter(content.values()), None)


def _is_managed(present: dict[str, Any]) -> bool:
    kinds = ("policy", "component_template", "index_template")
    return any(covers(present[kind].get("_meta"), MANAGED_BY) for kind in kinds if kind in present)
