"""The accounts of the steps of a stream task: what became of the records that are in its state or were in it.

They are in the state, see :mod:`headrace.step_accounting`. When a partition's state was restored, its open records are
counted, so that an account shows what the changelog or the checkpoint did not have.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from headrace.conditions import RaiseCondition
from headrace.pipeline.stream.state import StreamState
from headrace.plugin import StreamTask
from headrace.records import TopicPartition
from headrace.step_accounting import StepAccounts, step_balance


@dataclass
class StateAccounts:
    """Reads the accounts of the owned partitions. Used from the task's thread."""

    application: str
    task: StreamTask
    state: StreamState
    accounts: StepAccounts
    """Those that are shown."""
    raise_condition: RaiseCondition
    _missing: dict[tuple[str, int], dict[str, int]] = field(default_factory=dict)
    """By store and partition: how many open records the restored entries lack, by step."""
    _reported: dict[tuple[str, int], int] = field(default_factory=dict)
    """By step and partition: the balance that was reported."""

    def restored(self, partitions: Collection[TopicPartition]) -> None:
        """Count the open records of restored partitions."""
        for place in {(store, item.partition) for item in partitions for store in self.state.of(item)}:
            state = self.state.in_partition(*place)
            counted = self.task.open_records(place[0], state)
            accounts = self.task.accounts(place[0], state)
            self._missing[place] = {
                step: account.get("open", 0) - counted.get(step, 0) for step, account in accounts.items()
            }
            self._read(*place)

    def committed(self) -> None:
        """Read the accounts of the stores that the committed transaction has changed."""
        for store, partition in self.state.changed():
            self._read(store, partition)

    def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Remove the accounts of partitions that are given away."""
        for place in {(store, item.partition) for item in partitions for store in self.state.of(item)}:
            self._missing.pop(place, None)
            self.accounts.remove(place)

    def _read(self, store: str, partition: int) -> None:
        missing = self._missing.get((store, partition), {})
        for step, account in self.task.accounts(store, self.state.in_partition(store, partition)).items():
            found = {**account, "open": account.get("open", 0) - missing.get(step, 0)}
            self.accounts.set(step, (store, partition), found)
            lacking = step_balance(found)
            if lacking != self._reported.get((step, partition), 0):
                self._reported[step, partition] = lacking
                self._report(step, partition, lacking)

    def _report(self, step: str, partition: int, lacking: int) -> None:
        problem = f"lacks {lacking:,}" if lacking > 0 else f"has {-lacking:,} too many"
        self.raise_condition(
            "stream.unaccounted",
            f"the balance of step '{step}' is not 0: its state {problem} of the records that it has taken",
            f"its results are wrong by these records; to make them again: headrace stream reset {self.application}",
            count=abs(lacking),
            example=f"partition {partition} of {step}",
        )
