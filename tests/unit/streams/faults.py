"""Kafka clients that fail at a chosen call: the process dies, the call is not answered, or it raises any error."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.broker.in_memory import InMemoryKafka
from headrace.errors import RetriableError
from tests.unit.streams.conftest import Application

_CLIENTS = {"producer", "consumer", "admin", "reader", "transactional_producer"}


class ProcessDiedError(BaseException):
    """The process died: no further call has an effect."""


@dataclass
class FaultPlan:
    """Fails at the call with number ``call``: before it has an effect, or after (``answered`` is lost)."""

    call: int
    effect: bool
    """Whether the call has its effect before it fails."""
    dies: bool
    """Whether the process dies; else the call raises ``error`` once."""
    error: Exception = field(default_factory=lambda: RetriableError("no answer", code="kafka.unreachable"))
    calls: int = 0
    failed: bool = False

    def run(self, call: Callable[[], Any], *, closes: bool = False) -> Any:
        """Make a call. ``closes``: it closes a client, which has its effect without an answer, too: a member that does
        not say that it leaves its group is removed by the coordinator after ``session.timeout.ms``."""
        if self.failed and self.dies:
            raise ProcessDiedError
        self.calls += 1
        if self.failed or self.calls != self.call:
            return call()
        self.failed = True
        if self.effect or (closes and not self.dies):
            call()
        raise ProcessDiedError if self.dies else self.error


@dataclass(eq=False)
class FailingClient:
    """A client, or the factory of clients, whose calls go through a plan."""

    target: Any
    plan: FaultPlan

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self.target, name)
        if name == "sharing":
            return lambda _: self
        if not callable(attribute):
            return attribute

        def call(*arguments: Any, **settings: Any) -> Any:
            result = self.plan.run(lambda: attribute(*arguments, **settings), closes=name == "close")
            return FailingClient(result, self.plan) if name in _CLIENTS else result

        return call


@dataclass(eq=False)
class StopWhen(threading.Event):
    """A stop event that is set when a condition holds."""

    condition: Callable[[], bool]
    _held: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        super().__init__()

    def is_set(self) -> bool:
        return self.condition()


def run_with_faults(
    application: Application,
    sends: Iterable[Callable[[], None]],
    faults: Sequence[tuple[int, bool, bool] | tuple[int, bool, bool, Exception]],
) -> None:
    """Send records, and run processes until all are processed; each process has its fault, until none is left.

    A fault is the arguments of a plan. A task that the error of its plan has ended is started again.
    """
    waiting = list(faults)
    for send in sends:
        send()
        while True:
            plan = FaultPlan(*waiting.pop(0)) if waiting else None
            clients = FailingClient(application.broker, plan) if plan is not None else None
            try:
                application.run(StopWhen(application.is_processed), clients)
            except ProcessDiedError:
                remove_members(application.broker, f"connect-{application.name}")
            except Exception as error:
                if plan is None or plan.error not in (error, error.__cause__):
                    raise
            else:
                break


def remove_members(broker: InMemoryKafka, group: str) -> None:
    """Remove the members of a process that died, as the coordinator does after ``session.timeout.ms``."""
    with broker.changed:
        broker.groups[group].members.clear()
        broker.groups[group].owners.clear()
