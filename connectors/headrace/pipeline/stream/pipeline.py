"""A stream task from its start to its end, around :class:`headrace.pipeline.stream.loop.StreamLoop`."""

from __future__ import annotations

from headrace.pipeline.control import TaskControl
from headrace.pipeline.shutdown import shut_down
from headrace.pipeline.stages import Stages
from headrace.pipeline.stream.clients import StreamClients, StreamLimits
from headrace.pipeline.stream.loop import StreamLoop
from headrace.plugin import StreamContext, StreamTask


class StreamPipeline:
    """One run of a task, on the thread that calls :meth:`run`."""

    def __init__(
        self,
        task: StreamTask,
        context: StreamContext,
        stages: Stages,
        clients: StreamClients,
        control: TaskControl,
        limits: StreamLimits,
    ) -> None:
        self._task = task
        self._context = context
        self._stages = stages
        self._clients = clients
        self._control = control
        self._limits = limits
        self._loop: StreamLoop | None = None

    def run(self) -> None:
        """Run until told to stop. Raise what the task cannot survive."""
        with shut_down(self._close, self._task.stop, self._stages):
            topology = self._task.start(self._context)
            application = self._context.task.connector
            self._loop = StreamLoop(
                application, self._task, topology, self._stages, self._clients, self._control, self._limits
            )
            with self._clients.deciding():
                self._loop.run()

    def _close(self) -> None:
        if self._loop is not None:
            self._loop.close()
