"""Lifecycle policy, component templates and index template: made at start or checked, before any index is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import structlog

from headrace import InfrastructureError
from headrace_sinks.elasticsearch.cluster.catalog import Catalog, Denied, path
from headrace_sinks.elasticsearch.configuration.index_keys import IndexKeys
from headrace_sinks.elasticsearch.mappings.fit import covers

OURS = {"managed_by": "headrace"}
_HIDDEN: dict[str, Any] = {}
"""Stands for what we may not look at."""


class Part(NamedTuple):
    """One resource. ``wanted`` is compared with what is there; ``body`` is what is put."""

    title: str
    place: str
    body: dict[str, Any]
    wanted: dict[str, Any]


class Templates:
    """Keeps what the user named in ``index.template`` and ``index.lifecycle.policy``."""

    def __init__(
        self, catalog: Catalog, config: IndexKeys, log: structlog.stdlib.BoundLogger, *, look_only: bool = False
    ) -> None:
        self._catalog = catalog
        self._config = config
        self._log = log
        self._look_only = look_only

    def steps(self, patterns: Sequence[str], *, data_stream: bool = False) -> Iterator[Callable[[], None]]:
        """Each makes what is missing, changes what is ours and different; with ``index.management: check`` only tells.

        They raise InfrastructureError, TaskError, RetriableError.
        """
        if self._config.lifecycle_policy:
            yield self._keep_policy
        if self._config.index_template:
            for part in self._components():
                yield partial(self._keep, part)
            yield lambda: self._keep(self._template(patterns, data_stream))

    def _keep_policy(self) -> None:
        name, phases = self._config.lifecycle_policy, self._config.phases()
        place = f"/_ilm/policy{path(name)}"
        if phases:
            body = {"policy": {"_meta": OURS, "phases": phases}}
            self._keep(Part(f"lifecycle policy '{name}'", place, body, {"policy": {"phases": phases}}))
        elif self._look(f"lifecycle policy '{name}'", place) is None:
            raise InfrastructureError(
                f"there is no lifecycle policy '{name}'",
                code="elasticsearch.policy_missing",
                hint="create it, or say what it does with 'index.lifecycle.rollover.max.age' and "
                "'index.lifecycle.delete.after'",
            )

    def _components(self) -> list[Part]:
        name = self._config.index_template
        bodies = {
            f"{name}@settings": {"settings": self._config.new_index_settings()},
            f"{name}@mappings": {"mappings": self._config.declared()},
        }
        return [
            Part(
                f"component template '{each}'",
                f"/_component_template{path(each)}",
                {"_meta": OURS, "template": template},
                {"component_template": {"template": template}},
            )
            for each, template in bodies.items()
        ]

    def _template(self, patterns: Sequence[str], data_stream: bool) -> Part:
        config, name = self._config, self._config.index_template
        composed = [f"{name}@settings", f"{name}@mappings"]
        custom = f"{name}@custom"
        if self._look(f"component template '{custom}'", f"/_component_template{path(custom)}"):
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
        wanted = {"index_template": body}
        return Part(f"index template '{name}'", f"/_index_template{path(name)}", {**body, "_meta": OURS}, wanted)

    def _keep(self, part: Part) -> None:
        present = self._look(part.title, part.place)
        if present is _HIDDEN or (present is not None and covers(present, part.wanted)):
            return
        if self._config.index_management == "check":
            state = "is not there" if present is None else "is not as the configuration says"
            raise InfrastructureError(
                f"{part.title} {state}",
                code="elasticsearch.template_missing" if present is None else "elasticsearch.template_differs",
                hint="index.management: create makes it; or make it as the configuration says",
            )
        if present is not None and not _is_ours(present):
            raise InfrastructureError(
                f"{part.title} is there, differs from the configuration, and was not made by headrace",
                code="elasticsearch.template_taken",
                hint="choose another name, make the two equal, or remove it",
            )
        if self._look_only:
            return
        self._catalog.put(part.place, part.body, part.title)
        self._log.info("created" if present is None else "changed", what=part.title)

    def _look(self, title: str, place: str) -> dict[str, Any] | None:
        """The resource itself, without the list or name that Elasticsearch wraps around it."""
        try:
            content = self._catalog.get(f"{place}?flat_settings=true" if "template" in place else place)
        except Denied as error:
            self._log.warning("not checked", what=title, reason=str(error))
            return _HIDDEN
        if content is None:
            return None
        for wrapper in ("component_templates", "index_templates"):
            if wrapper in content:
                found: list[dict[str, Any]] = content[wrapper]
                return found[0] if found else None
        return next(iter(content.values()), None)


def _is_ours(present: dict[str, Any]) -> bool:
    kinds = ("policy", "component_template", "index_template")
    return any(covers(present[kind].get("_meta"), OURS) for kind in kinds if kind in present)
