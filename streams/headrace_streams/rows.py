"""Records between the steps of a stream application, as columns of keys, values, times and origins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headrace import Headers


@dataclass(slots=True)
class Rows:
    """Records of one stream in one batch. Columns are never changed in place: steps share them.

    ``times`` are event times in epoch milliseconds. ``origins`` are the Kafka offsets of the records that the rows were
    made of, ascending; below 0 for the results of closed windows. ``headers`` None: no record has any.
    """

    keys: list[Any]
    values: list[dict[str, Any]]
    times: list[int]
    origins: list[int]
    headers: list[Headers] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def only(self, places: Sequence[int]) -> Rows:
        """Return the rows at these places, in this order; a place may appear several times."""
        if len(places) == len(self.values) and all(map(int.__eq__, places, range(len(places)))):
            return self
        return Rows(
            [self.keys[place] for place in places],
            [self.values[place] for place in places],
            [self.times[place] for place in places],
            [self.origins[place] for place in places],
            None if self.headers is None else [self.headers[place] for place in places],
        )

    def with_values(self, values: list[dict[str, Any]]) -> Rows:
        """Return rows with other values."""
        return Rows(self.keys, values, self.times, self.origins, self.headers)


def merge(parts: Sequence[Rows]) -> Rows:
    """Return the rows of several streams in the order of their origins."""
    if len(parts) == 1:
        return parts[0]
    with_headers = any(part.headers is not None for part in parts)
    merged = Rows(
        [key for part in parts for key in part.keys],
        [value for part in parts for value in part.values],
        [moment for part in parts for moment in part.times],
        [origin for part in parts for origin in part.origins],
        [item for part in parts for item in part.headers or [()] * len(part)] if with_headers else None,
    )
    return merged.only(sorted(range(len(merged)), key=merged.origins.__getitem__))
