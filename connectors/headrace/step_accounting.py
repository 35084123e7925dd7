"""The balance of records in a step of a stream application: where the records are that its state has counted.

::

    received = results + matched + unmatched + expired + dropped + late + open

=========  ==========================================================================================================
received   records that the step has taken since its state began; a record counts once in each of its windows
results    in the results of windows that have closed, or passed on by ``deduplicate``
matched    left records of a join with a match
unmatched  left records of a join that closed without a match, or whose key is null
expired    right records of a join that can have no further match, whether they had one or not
dropped    duplicates; records behind the limit of ``top``; right records of a join whose key is null
late       records that came too late to change anything
open       in the state: in windows that have not closed, or records of a join that may still have a match
=========  ==========================================================================================================

The terms are part of the state, so they are committed, restored and discarded together with the effects of the records.
``open`` is counted again from the entries of a state that was restored. So a state that lacks entries does not balance.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

OUTCOMES = ("results", "matched", "unmatched", "expired", "dropped", "late", "open")
TERMS = ("received", *OUTCOMES)


def step_balance(account: Mapping[str, int]) -> int:
    """Return the number of records without a known outcome: 0 when none is missing."""
    return account.get("received", 0) - sum(account.get(term, 0) for term in OUTCOMES)


class StepAccounts:
    """The accounts of a task's steps, by partition. Written by one thread, read by any."""

    def __init__(self) -> None:
        self._accounts: dict[tuple[str, Hashable], Mapping[str, int]] = {}

    def set(self, step: str, partition: Hashable, account: Mapping[str, int]) -> None:
        self._accounts[step, partition] = account

    def remove(self, partition: Hashable) -> None:
        """Remove the accounts of a partition, which another task may have now."""
        for place in [place for place in self._accounts if place[1] == partition]:
            self._accounts.pop(place, None)

    def snapshot(self) -> dict[str, dict[str, int]]:
        """Return all terms of each account, over the task's partitions."""
        found: dict[str, dict[str, int]] = {}
        for (step, _), account in list(self._accounts.items()):
            total = found.setdefault(step, dict.fromkeys(TERMS, 0))
            for term in TERMS:
                total[term] += account.get(term, 0)
        return found
