"""Generations of an index behind an alias; their state is stored in the mappings' ``_meta``.

::

    orders (index) ──clone──▶ orders-000001 ◀── orders (alias)          first time only; writes are blocked for seconds
    orders-000001 live     ◀── orders       orders-000002 building      backfill
    orders-000001 old           orders ──▶  orders-000002 building      switched, newer records are being written
    orders-000001 old           orders ──▶  orders-000002 live
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace import ConflictError, NotFoundError, RetriableError, TaskError, TopicPartition
from headrace_sinks.elasticsearch.cluster.index_catalog import IndexCatalog, IndexState, LookupDeniedError, path

BUILDING, LIVE, OLD, CLONING = "building", "live", "old", "cloning"
_BLOCK = "index.blocks.write"
_GENERATION = re.compile(r"-(\d{6})$")


@dataclass(frozen=True)
class Generations:
    """The generations of an alias; the alias points to ``live``."""

    alias: str
    live: IndexState
    others: tuple[IndexState, ...]

    def in_state(self, state: str) -> IndexState | None:
        """Return the newest other generation in this state."""
        return next((index for index in reversed(self.others) if index.meta.get("state") == state), None)

    @property
    def switched(self) -> bool:
        """Whether a rebuild has switched the alias but is not finished."""
        return bool(self.live.meta.get("state") == BUILDING)

    @property
    def next_name(self) -> str:
        numbers = [int(match[1]) for index in (self.live, *self.others) if (match := _GENERATION.search(index.name))]
        return f"{self.alias}-{max(numbers, default=0) + 1:06d}"


class GenerationStore:
    """Finds generations and stores their state. Raises as IndexCatalog does; CommandError for refused commands."""

    def __init__(self, catalog: IndexCatalog) -> None:
        self._catalog = catalog

    def find(self, name: str) -> Generations | None:
        """Return the generations of an alias; None when ``name`` is an index. Raise NotFoundError, ConflictError."""
        behind = self._behind(name)
        if not behind:
            raise NotFoundError(
                f"there is no index '{name}' yet", code="reindex.nothing_there", hint="the connector makes it"
            )
        if behind[0].name == name:
            return None
        if len(behind) > 1:
            listed = ", ".join(index.name for index in behind)
            raise ConflictError(
                f"'{name}' is an alias of several indices ({listed})",
                code="reindex.several_indices",
                hint=f"only an alias of one index can be rebuilt; `POST /{name}/_rollover` starts a new index",
            )
        live = behind[0]
        others = tuple(index for index in self._generations_of(name) if index.name != live.name)
        return Generations(name, live, others)

    def make_alias(self, name: str) -> Generations:
        """Replace an index by an alias of its copy. Writers wait for seconds, readers do not.

        A running search may be answered 503 when the index is replaced.
        """
        (index,) = self._behind(name)
        first = f"{name}-000001"
        self.note(index, state=CLONING, alias=name)
        # The block API, unlike the setting, waits for running writes, so the copy contains them.
        self._catalog.request("PUT", f"{path(name)}/_block/write", f"writes to index '{name}' cannot be held back")
        if any(other.name == first for other in self._generations_of(name)):
            # Left by an interrupted attempt, possibly incomplete; only headrace uses such names.
            self.delete(first, owner=name)
        body = {"settings": {_BLOCK: None}}
        self._catalog.request("PUT", f"{path(name)}/_clone{path(first)}", f"index '{name}' cannot be copied", body)
        health = self._catalog.request(
            "GET",
            f"/_cluster/health{path(first)}?wait_for_status=yellow&timeout=30s",
            "the health of the copy cannot be read",
        )
        if health.get("timed_out") or health.get("status") == "red":
            raise RetriableError(f"the copy of index '{name}' is not ready yet", code="elasticsearch.unavailable")
        actions: list[dict[str, Any]] = [{"remove_index": {"index": name}}]
        actions.append({"add": {"index": first, "alias": name, "is_write_index": True}})
        actions += [_added(first, alias, details) for alias, details in index.aliases.items()]
        self._catalog.aliases(actions)
        return self._finished_alias(name)

    def finish_alias(self, found: Generations) -> Generations:
        """Finish :meth:`make_alias` if it was interrupted after its last request."""
        return self._finished_alias(found.alias) if found.live.meta.get("state") == CLONING else found

    def unblock(self, name: str) -> bool:
        """Undo :meth:`make_alias` if it was interrupted before its last request."""
        behind = self._behind(name)
        if not behind or behind[0].name != name or behind[0].meta.get("state") != CLONING:
            return False
        for other in self._generations_of(name):
            if other.meta.get("state") == CLONING and other.name != name:
                self.delete(other.name, owner=name)
        self._settings(name, {_BLOCK: None})
        self.note(behind[0])
        return True

    def note(self, index: IndexState, **about: Any) -> None:
        """Replace the stored state of an index."""
        meta = {name: value for name, value in index.mapping.get("_meta", {}).items() if name != "headrace"}
        self._catalog.put_mapping(index.name, {"_meta": {**meta, "headrace": about}})

    def switch(self, pairs: Sequence[tuple[Generations, IndexState]], further: Sequence[str]) -> None:
        """Move the alias of each pair, and all further aliases, from the live index to the new one atomically."""
        actions: list[dict[str, Any]] = []
        for found, new in pairs:
            live = found.live
            aliases = {**{alias: {} for alias in further}, **live.aliases, found.alias: {"is_write_index": True}}
            actions += [_added(new.name, alias, details) for alias, details in aliases.items()]
            actions += [{"remove": {"index": live.name, "alias": alias}} for alias in live.aliases]
        self._catalog.aliases(actions)

    def delete(self, index: str, *, owner: str) -> None:
        """Delete a generation of ``owner``; never anything else."""
        if not (index.startswith(f"{owner}-") and _GENERATION.search(index)):
            raise TaskError(f"index '{index}' is not a generation of '{owner}'", code="reindex.not_a_generation")
        self._catalog.request("DELETE", path(index), f"index '{index}' cannot be deleted")

    def fresh(self, index: IndexState) -> IndexState:
        """Read the index again."""
        (found,) = self._behind(index.name)
        return found

    def _finished_alias(self, name: str) -> Generations:
        (index,) = self._behind(name)
        self.note(index, alias=name, state=LIVE)
        found = self.find(name)
        assert found is not None
        return found

    def _generations_of(self, name: str) -> list[IndexState]:
        pattern = re.compile(re.escape(name) + r"-\d{6}")
        return [index for index in self._behind(f"{name}-*") if pattern.fullmatch(index.name)]

    def _behind(self, name: str) -> list[IndexState]:
        try:
            return self._catalog.behind(name)
        except LookupDeniedError as error:
            raise TaskError(
                f"index '{name}' may not be read: {error}",
                code="elasticsearch.forbidden",
                hint="reindex needs the privilege manage on the indices",
            ) from error

    def _settings(self, name: str, settings: Mapping[str, Any]) -> None:
        self._catalog.put(f"{path(name)}/_settings", settings, f"a setting of index '{name}'")


def noted_positions(index: IndexState) -> dict[TopicPartition, int]:
    """Return the positions stored by :func:`to_note`."""
    found = {}
    for name, offset in index.meta.get("positions", {}).items():
        topic, _, partition = name.rpartition("-")
        found[TopicPartition(topic, int(partition))] = int(offset)
    return found


def to_note(positions: Mapping[TopicPartition, int]) -> dict[str, int]:
    return {str(item): offset for item, offset in positions.items()}


def _added(index: str, alias: str, details: Mapping[str, Any]) -> dict[str, Any]:
    return {"add": {"index": index, "alias": alias, **details}}
