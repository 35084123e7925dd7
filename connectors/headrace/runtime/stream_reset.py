"""Resets a stopped stream application: its offsets, and the internal topics that hold its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from headrace.broker.interfaces import Admin, Reader
from headrace.pipeline.stream.registration import read_registration, registration_topic
from headrace.pipeline.stream.topics import changelog_topic
from headrace.plugin import StreamTopology
from headrace.records import TopicPartition


@dataclass(frozen=True)
class StreamReset:
    """What a reset does. ``offsets``: the next offset of each input partition, before (None: none) and after."""

    offsets: dict[TopicPartition, tuple[int | None, int]]
    topics: tuple[str, ...]
    """Internal topics that are deleted."""


def plan_reset(
    admin: Admin, open_reader: Callable[[], Reader], application: str, group: str, topology: StreamTopology
) -> StreamReset:
    """Return what a reset would do. Raise RetriableError when Kafka is unavailable.

    Topics of former versions of the application are those that its registration names; no topic is found by its name
    alone, because the names of another application may begin with this one's.
    """
    stores, topics = set(topology.stores), set(topology.repartitions)
    registered = read_registration(admin, open_reader, application)
    if registered is not None:
        stores |= set(registered.stores)
        followed = {topic for _, names in registered.stores.values() for topic in names}
        topics |= {topic for topic in followed if topic not in topology.inputs and topic.startswith(f"{application}-")}
    topics |= {changelog_topic(application, store) for store in stores} | {registration_topic(application)}
    topics -= {*topology.inputs, *topology.tables, *topology.outputs}
    existing = admin.topics()
    committed, begins = admin.committed(group), admin.begin_offsets(topology.inputs)
    offsets = {place: (committed.get(place), begin) for place, begin in sorted(begins.items())}
    return StreamReset(offsets, tuple(sorted(topics & existing)))


def apply_reset(admin: Admin, group: str, reset: StreamReset) -> None:
    """Move the offsets, then delete the topics. Raise RetriableError while a task of any process runs: Kafka refuses to
    move the offsets of a group with members, and nothing is changed."""
    if reset.offsets:
        admin.commit(group, {place: begin for place, (_, begin) in reset.offsets.items()})
    admin.delete_topics(reset.topics)
