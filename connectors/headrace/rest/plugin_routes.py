"""Routes below ``/connector-plugins``."""

from __future__ import annotations

from typing import Any

import structlog
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from headrace.errors import ConfigError, NotFoundError
from headrace.plugin_docs import config_definitions
from headrace.registry import Plugin, PluginKind, Registry
from headrace.rest import request_bodies, response_bodies
from headrace.rest.handlers import RestRequest, bad_request, resource
from headrace.runtime.api import WorkerApi

log = structlog.stdlib.get_logger(__name__)

CONFIGURABLE = (
    PluginKind.CONNECTOR,
    PluginKind.TRANSFORM,
    PluginKind.PREDICATE,
    PluginKind.CONVERTER,
    PluginKind.HEADER_CONVERTER,
)
"""Kinds of plugins in Connect, in the order of its list."""


class PluginRoutes:
    """Installed plugins, their keys, and validation."""

    def __init__(self, api: WorkerApi, registry: Registry) -> None:
        self._api = api
        self._registry = registry

    def routes(self) -> list[Route]:
        """Return the routes below ``/connector-plugins``. A plugin is found by class, name or JVM alias."""
        return [
            resource("/connector-plugins", get=self.list_plugins),
            resource("/connector-plugins/{plugin}/config", get=self.config),
            resource("/connector-plugins/{plugin}/config/validate", put=self.validate),
        ]

    def list_plugins(self, request: RestRequest) -> Response:
        """Sinks, then sources; with ``?connectorsOnly=false`` also transforms, predicates and converters."""
        kinds = CONFIGURABLE[:1] if request.flag("connectorsOnly", default=True) else CONFIGURABLE
        shown: list[dict[str, str]] = []
        for kind in kinds:
            views_of_kind = [view for item in self._registry.plugins(kind) if (view := _view(item))]
            shown += sorted(views_of_kind, key=lambda view: view["type"])  # "sink" before "source"
        return JSONResponse(shown)

    def config(self, request: RestRequest) -> Response:
        """Return the definitions of a plugin's keys."""
        plugin = self._find(request.path["plugin"])
        wanted = request.query.get("version")
        if wanted and wanted != plugin.version:
            text = f"Plugin {plugin.name} is not installed in version {wanted}"
            raise bad_request(text, f"installed: {plugin.version}")
        return JSONResponse(config_definitions(plugin))

    def validate(self, request: RestRequest) -> Response:
        """Return 200 also when there are errors; they are in the body."""
        requested, config = request.path["plugin"], request_bodies.config_changes(request.json_object())
        included = config.get("connector.class")
        if not included:
            raise bad_request("Connector config contains no connector type", "set 'connector.class'")
        if not self._same(included, requested):
            raise bad_request(f"Included connector type {included} does not match request type {requested}")
        answer = self._api.validate({name: value for name, value in config.items() if value is not None})
        return JSONResponse(_with_nulls(answer, [name for name, value in config.items() if value is None]))

    def _find(self, name: str) -> Plugin:
        for kind in CONFIGURABLE:
            try:
                return self._registry.find(kind, name)
            except ConfigError as error:
                if error.code != "plugin.unknown":
                    raise
        hint = self._registry.unknown(PluginKind.CONNECTOR, name).hint
        raise NotFoundError(f"Unknown plugin {name}.", hint=hint)

    def _same(self, included: str, requested: str) -> bool:
        if included.removesuffix("Connector").endswith(requested.removesuffix("Connector")):
            return True
        try:
            found = [self._registry.find(PluginKind.CONNECTOR, name) for name in (included, requested)]
        except ConfigError:  # at least one is not installed, so the two are not the same
            return False
        return found[0] is found[1]


def _with_nulls(answer: dict[str, Any], names: list[str]) -> dict[str, Any]:
    """Replace the errors of keys whose value is null by one that says so, as Connect does.

    Optional keys of the connector may be null: that is the same as not giving them.
    """
    configs = {item["value"]["name"]: item for item in answer["configs"]}
    for name in names:
        if (definition := configs.get(name, {}).get("definition")) and not definition["required"]:
            continue
        value = {
            "name": name,
            "value": None,
            "recommended_values": [],
            "errors": [request_bodies.NULL],
            "visible": True,
        }
        configs[name] = {"definition": configs[name]["definition"] if name in configs else None, "value": value}
    count = sum(len(item["value"]["errors"]) for item in configs.values())
    return {**answer, "error_count": count, "configs": list(configs.values())}


def _view(item: Plugin) -> dict[str, str] | None:
    try:
        return response_bodies.plugin(item)
    except ConfigError as error:  # one broken plugin must not hide the others
        log.warning("rest.plugin_omitted", plugin=item.name, reason=str(error))
        return None
