"""Batches over kafka-python: its sender's thread acknowledges records whenever it likes."""

from __future__ import annotations

from headrace.broker.kafka_python.producer import KafkaPythonDelivery


class AcknowledgedMeanwhile:
    """A record's future that is not done when it is looked at first, and is when it is looked at again."""

    exception = None

    def __init__(self) -> None:
        self.looks = 0

    @property
    def is_done(self) -> bool:
        self.looks += 1
        return self.looks > 1


def test_what_is_acknowledged_between_two_looks_is_done_and_no_failure() -> None:
    failures: list[None] = []
    delivery = KafkaPythonDelivery("t", [AcknowledgedMeanwhile()], lambda: failures.append(None))

    delivery.done()
    assert delivery.done()
    assert not delivery.never_done
    assert failures == []
