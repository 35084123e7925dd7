"""Learned models as keyed records: a snapshot in parts, and the events after it.

The records are the state of the learning step, and those of the topic that all selecting tasks follow. A snapshot is
taken every 1,000 events, so that a restart reads the snapshot and at most 999 events, and the keys repeat: compaction
keeps the topic small.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

from headrace_streams.exploration.experiment import Experiment
from headrace_streams.exploration.learned_models import Event, LearnedModels

SNAPSHOT_EVERY = 1000
HEAD = "head"
_PART = 256 * 1024
"""Bytes of a snapshot in one record: brokers refuse records above 1 MB."""


class IncompleteLogError(Exception):
    """The records are not those of one state: some of the latest ones are not read yet."""


def learn(models: LearnedModels, event: Event, records: dict[str, Any]) -> None:
    """Apply an event, and put the records of the new state into ``records``; the head comes last."""
    models.apply(event)
    records.pop(HEAD, None)
    records[f"event/{models.seq % SNAPSHOT_EVERY}"] = {"seq": models.seq, "digest": models.digest, "event": event}
    if models.seq % SNAPSHOT_EVERY == 0:
        data = models.to_bytes()
        for part, start in enumerate(range(0, len(data), _PART)):
            text = b64encode(data[start : start + _PART]).decode()
            records[f"snapshot/{part}"] = {"seq": models.seq, "bytes": len(data), "data": text}
    records[HEAD] = {"seq": models.seq, "digest": models.digest}


def follow(experiment: Experiment, known: LearnedModels | None, log: Mapping[str, Any]) -> LearnedModels:
    """Return the models at the head of the log. ``known`` is moved forward if the log continues its state.

    Raises:
        IncompleteLogError: read on, and try again.
        IncompatibleStateError: a version has changed.
    """
    head = log.get(HEAD)
    if head is None:
        return known if known is not None and known.seq == 0 else LearnedModels(experiment)
    if known is not None and (known.seq, known.digest) == (head["seq"], head["digest"]):
        return known
    snapshot = head["seq"] // SNAPSHOT_EVERY * SNAPSHOT_EVERY
    if known is None or not snapshot <= known.seq < head["seq"] or not _continues(known, log):
        known = LearnedModels(experiment)
        if snapshot:
            known.restore(_snapshot(log, snapshot))
    for seq in range(known.seq + 1, head["seq"] + 1):
        record = log.get(f"event/{seq % SNAPSHOT_EVERY}")
        if record is None or record["seq"] != seq:
            raise IncompleteLogError(f"event {seq} is not there")
        known.apply(record["event"])
        if known.digest != record["digest"]:
            raise IncompleteLogError(f"event {seq} does not follow the events before it")
    return known


def _continues(known: LearnedModels, log: Mapping[str, Any]) -> bool:
    if known.seq == 0:
        return True
    record = log.get(f"event/{known.seq % SNAPSHOT_EVERY}")
    return record is not None and (record["seq"], record["digest"]) == (known.seq, known.digest)


def _snapshot(log: Mapping[str, Any], seq: int) -> bytes:
    data = b""
    part = 0
    while True:
        record = log.get(f"snapshot/{part}")
        if record is None or record["seq"] != seq:
            raise IncompleteLogError(f"part {part} of the snapshot after event {seq} is not there")
        data += b64decode(record["data"])
        if len(data) >= record["bytes"]:
            return data
        part += 1
