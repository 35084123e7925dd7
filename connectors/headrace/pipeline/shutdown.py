"""The end of a task's loop: everything is closed in order, whatever fails meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from headrace.errors import HeadraceError
from headrace.pipeline.control import TaskControl
from headrace.pipeline.fence import TaskAbandonedError
from headrace.pipeline.stages import Stages


@contextmanager
def shut_down(close: Callable[[], None], stop: Callable[[], None], stages: Stages) -> Iterator[None]:
    """At the end of the block call ``close`` (of the loop), then ``stop`` (of the task), then close the stages.

    Each is called even if the block or an earlier one raises.
    """
    with ExitStack() as stack:
        stack.callback(stages.close)
        stack.callback(stop)
        stack.callback(close)
        yield


def close_clients(control: TaskControl, *closes: Callable[[], None]) -> None:
    """Close clients that the task uses no more. A failure is logged: nothing depends on them any more."""
    for close in closes:
        try:
            close()
        except TaskAbandonedError as error:  # closing a consumer commits first
            control.log.warning("positions not committed", code=error.code, reason=str(error))
        except HeadraceError as error:
            control.log.warning("client not closed", code=error.code, reason=str(error))
