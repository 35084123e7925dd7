"""``headrace check`` asks whether the worker's user may read as a member of the consumer groups of these connectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from headrace.broker.client_errors import acl_command
from headrace.broker.connector_clients import connects_as_admin
from headrace.errors import Finding
from headrace.pair_checks import LocatedFinding
from headrace.runtime.stage_build import group_of
from headrace.settings import WorkerSettings
from headrace.validation import ConnectorConfig

GroupLookup = Callable[[Sequence[str]], Mapping[str, bool]]
"""Given names of groups: whether the user may read as a member of each."""


def group_findings(
    connectors: Iterable[ConnectorConfig], worker: WorkerSettings, look_up: GroupLookup
) -> Iterator[LocatedFinding]:
    """Yield a finding for each group without READ; of consumers with another principal nothing is known.

    Raise the errors of ``look_up``.
    """
    groups: dict[str, tuple[ConnectorConfig, str]] = {}
    for config in connectors:
        if config.plugin.type in ("sink", "stream") and connects_as_admin(worker, config.settings, "consumer"):
            own = config.settings.consumer_override
            group = {**worker.consumer, **own}.get("group.id", group_of(config.name))
            groups[group] = (config, "consumer.override.group.id" if "group.id" in own else "name")
    allowed = look_up(list(groups)) if groups else {}
    for group, (config, key) in groups.items():
        if not allowed[group]:
            text = f"cannot read as a member of group {group}: the worker's user has no READ on GROUP {group}"
            hint = acl_command("group", group, "READ")
            yield LocatedFinding(config.name, Finding("kafka.not_authorized", text, key, hint, cause="environment"))
