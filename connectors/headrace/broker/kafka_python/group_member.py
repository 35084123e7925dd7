"""A member of a group with metadata of its own, on kafka-python's coordinator, which is made for subclasses.

librdkafka joins groups of consumers only, so a worker uses this member also when its data passes through librdkafka.
Written for kafka-python 3.0, of which it uses private names; tests with a real broker fail when they change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kafka import errors as kafka_errors
from kafka.coordinator.base import BaseCoordinator
from kafka.net.compat import KafkaNetClient

from headrace.broker.group_member import GroupCallbacks, GroupTimeouts, JoinedGeneration
from headrace.broker.kafka_python import settings as kafka_settings
from headrace.broker.kafka_python.clients import SHARED, open_client
from headrace.broker.kafka_python.connection import ClientHandle, quiet
from headrace.broker.kafka_python.error_mapping import translated

_LEAVE_TIMEOUT = 3_000  # milliseconds
_COORDINATOR_TIMEOUT = 5_000  # milliseconds; the caller tries again, and reports why


class KafkaPythonGroupMember:
    """See :class:`headrace.broker.group_member.WorkerGroupMember`."""

    def __init__(
        self,
        settings: Mapping[str, str],
        group: str,
        protocol_type: str,
        callbacks: GroupCallbacks,
        timeouts: GroupTimeouts,
    ) -> None:
        """Connect to a broker. ``settings`` as of a consumer. Raise the errors of ``broker.interfaces``."""
        quiet()
        arguments = kafka_settings.arguments(settings, {}, kafka_settings.CONSUMER, {**SHARED})

        def make(**options: Any) -> _Coordinator:
            return _Coordinator(group, protocol_type, callbacks, timeouts, **options)

        self._group = group
        self._client: ClientHandle = open_client(make, arguments)
        self._coordinator: _Coordinator = self._client.client

    def join(self) -> JoinedGeneration | None:
        coordinator = self._coordinator
        with translated(f"join the worker group {self._group}", self._client):
            if not coordinator.ensure_coordinator_ready(_COORDINATOR_TIMEOUT):
                raise kafka_errors.KafkaTimeoutError("the coordinator of the group was not found")
            # Without a timeout: kafka-python forgets a join that ends between two calls, and the lost assignment would
            # be an increment that no later one repeats.
            coordinator.ensure_active_group(None)
        return coordinator.take_joined()

    def poll(self) -> None:
        with translated("send heartbeats to the coordinator of the worker group", self._client):
            self._coordinator.poll_heartbeat()

    def request_rejoin(self) -> None:
        self._coordinator.request_rejoin()

    def connection_problem(self) -> str | None:
        failure = self._client.failure()
        return failure.describe() if failure is not None else None

    def leave(self) -> None:
        self._coordinator.leave()


class _Coordinator(BaseCoordinator):  # type: ignore[misc]
    def __init__(
        self,
        group: str,
        protocol_type: str,
        callbacks: GroupCallbacks,
        timeouts: GroupTimeouts,
        *,
        kafka_client: Any,
        bootstrap_timeout_ms: int,
        **options: Any,
    ) -> None:
        client: KafkaNetClient = kafka_client(**options)
        manager = client._manager
        manager._net.start()
        manager.bootstrap(bootstrap_timeout_ms)
        self._name, self._callbacks = protocol_type, callbacks
        self._joined: JoinedGeneration | None = None
        self._join_answered = float("-inf")
        super().__init__(
            client,
            group_id=group,
            session_timeout_ms=round(timeouts.session * 1000),
            heartbeat_interval_ms=round(timeouts.heartbeat * 1000),
            max_poll_interval_ms=round(timeouts.rebalance * 1000),
            api_version=manager.broker_version,
        )

    def take_joined(self) -> JoinedGeneration | None:
        joined, self._joined = self._joined, None
        return joined

    def leave(self) -> None:
        self.close(timeout_ms=_LEAVE_TIMEOUT)
        self._client._manager._net.stop(_LEAVE_TIMEOUT)
        self._client.close()

    # Called by kafka-python, on its own thread

    def protocol_type(self) -> str:
        return self._name

    def group_protocols(self) -> list[tuple[str, bytes]]:
        return list(self._callbacks.protocols())

    def _perform_assignment(self, leader_id: str, protocol: str, members: Any) -> dict[str, bytes]:
        metadata = {member.member_id: bytes(member.metadata) for member in members}
        return dict(self._callbacks.assign(self._generation.generation_id, leader_id, protocol, metadata))

    async def _on_join_complete_async(self, generation: int, member_id: str, protocol: str, assignment: Any) -> None:
        self._joined = JoinedGeneration(generation, member_id, protocol, bytes(assignment))

    async def _send_heartbeat_request(self) -> Any:
        sent = self._callbacks.clock()
        try:
            answer = await super()._send_heartbeat_request()
        except kafka_errors.RebalanceInProgressError:
            self._callbacks.renewed(sent)  # the coordinator knows this member
            raise
        self._callbacks.renewed(sent)
        return answer

    async def _do_join_and_sync_async(self) -> Any:
        assignment = await super()._do_join_and_sync_async()
        self._callbacks.renewed(self._join_answered)  # the second request, which is answered now, was sent after that
        return assignment

    def _process_join_group_response(self, response: Any, send_time: float) -> Any:
        self._join_answered = self._callbacks.clock()
        return super()._process_join_group_response(response, send_time)

    def reset_generation(self, member_id: str = "") -> None:
        member_of_one = self._generation.generation_id != -1
        super().reset_generation(member_id)
        if member_of_one:
            self._callbacks.lost()
