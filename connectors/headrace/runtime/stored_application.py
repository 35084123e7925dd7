"""A stream application as a worker has stored it: its reset, and the state that its configuration must fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from headrace.broker.interfaces import Admin, Reader
from headrace.errors import NotFoundError
from headrace.pipeline.stream.registration import Registration, read_registration, require_fitting_state
from headrace.placeholders import is_interpolated
from headrace.runtime import stream_reset
from headrace.runtime.stream_reset import StreamReset
from headrace.validation import ConnectorConfig

log = structlog.stdlib.get_logger("headrace.worker")


@dataclass(frozen=True)
class StoredApplication:
    """``config`` has its placeholders."""

    name: str
    config: Mapping[str, str]
    open_reader: Callable[[], Reader]

    def reset(self, admin: Admin, parsed: ConnectorConfig, group: str, *, dry: bool) -> StreamReset:
        """Reset the offsets and delete the internal topics; ``dry``: only return what would be done."""
        topology = parsed.plugin.cls().topology(self.name, parsed.own)
        planned = stream_reset.plan_reset(admin, self.open_reader, self.name, group, topology)
        if not dry:
            stream_reset.apply_reset(admin, group, planned)
            log.info("application reset", connector=self.name, topics=planned.topics)
        return planned

    def registration(self, admin: Admin) -> Registration:
        """Return what the state was made by. Raise NotFoundError when the application has none."""
        found = read_registration(admin, self.open_reader, self.name)
        if found is None:
            text = f"stream application {self.name} has no state: it has never run, or was reset"
            raise NotFoundError(text, code="stream.not_registered")
        return found

    def require_fitting_state(self, admin: Admin, parsed: ConnectorConfig) -> None:
        """Raise ConflictError when the registered state does not fit the configuration.

        Steps with placeholders are left to the task: what is said of them would show the values to the caller.
        """
        if not any(is_interpolated(self.config.get(key, "")) for key in parsed.own):
            topology = parsed.plugin.cls().topology(self.name, parsed.own)
            require_fitting_state(self.name, read_registration(admin, self.open_reader, self.name), topology)
