"""File and line of a key, for messages that ask the user to change it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from headrace.errors import Location
from headrace.files import position_of


@dataclass(frozen=True)
class ConfigOrigin:
    """A connector's file as it was read: properties, and the line of each key."""

    path: str
    properties: Mapping[str, str]
    positions: Mapping[str, Location]


@dataclass
class ConfigOrigins:
    """Origins of connectors from files; a connector that was changed over REST has none any more."""

    origins: dict[str, ConfigOrigin] = field(default_factory=dict)

    def of(self, connector: str, config: Mapping[str, str]) -> Callable[[str], str]:
        """Return a function that returns file and line of a key of this connector."""
        origin = self.origins.get(connector)
        if origin is None or dict(origin.properties) != {key: config.get(key) for key in origin.properties}:
            return lambda key: f"in the configuration of {connector}, PATCH /connectors/{connector}/config"
        return lambda key: _location(origin, key)


def _location(origin: ConfigOrigin, key: str) -> str:
    if (place := position_of(key, origin.positions)) is not None:
        return str(place)
    last = max((place.line for place in origin.positions.values()), default=0)
    return f"not set yet, add it at {origin.path}:{last + 1}:1"
