"""Reads topics to the ends that they have now, for commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from headrace.broker.bounded_read import read_between
from headrace.broker.interfaces import Admin, Reader
from headrace.errors import NotFoundError
from headrace.records import ConsumedBatch


def read_to_ends(
    open_admin: Callable[[], Admin],
    open_reader: Callable[[], Reader],
    topics: Sequence[str],
    *,
    committed: bool,
    hint: str,
) -> Iterator[ConsumedBatch]:
    """Yield all records of topics, by partition. ``committed``: up to the first open transaction.

    ``hint`` is what to do when a topic does not exist. Raise NotFoundError, and what the clients raise.
    """
    with closing(open_admin()) as admin:
        missing = sorted(set(topics) - admin.topics())
        if missing:
            raise NotFoundError(f"no topic is named {', '.join(missing)}", code="kafka.missing_topic", hint=hint)
        ends = admin.end_offsets(topics, committed=committed)
    with closing(open_reader()) as reader:
        for poll in read_between(reader, {}, ends):
            yield from poll.batches
