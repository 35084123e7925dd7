"""Leaders write in transactions, so that one that was replaced cannot write any more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.errors import DataError, InfrastructureError, RetriableError
from headrace.records import EncodedBatch
from headrace.stores.log_writers import TransactionalWriter

ID = "connect-cluster-g"


class Leadership:
    """Answers whether a worker leads: what is listed first, then always the last answer."""

    def __init__(self, *answers: bool) -> None:
        self._answers = list(answers)

    def __call__(self) -> bool:
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def ends(self) -> None:
        self._answers = [False]


@pytest.fixture
def kafka() -> InMemoryKafka:
    made = InMemoryKafka()
    made.create("configs", 1)
    return made


def record(value: bytes) -> EncodedBatch:
    return EncodedBatch("configs", [value], [b"key"])


def written(kafka: InMemoryKafka) -> Iterator[bytes | None]:
    """Yield what a reader with read_committed sees."""
    reader = kafka.reader({})
    ends = kafka.admin({}).end_offsets(["configs"])
    reader.assign(dict.fromkeys(ends, 0))
    while any(reader.positions()[place] < end for place, end in ends.items()):
        for batch in reader.poll(0.1, 100):
            yield from batch.values


def test_a_leader_that_was_replaced_writes_nothing(kafka: InMemoryKafka) -> None:
    leads = Leadership(True)
    old, new = TransactionalWriter(kafka, ID, {}, leads), TransactionalWriter(kafka, ID, {}, Leadership(True))
    old.write(record(b"old"))
    assert new.follow_leadership("configs")
    leads.ends()
    with pytest.raises(RetriableError, match="another one leads it"):
        old.write(record(b"zombie"))
    new.write(record(b"new"))
    assert list(written(kafka)) == [b"old", b"new"]


def test_a_leader_that_a_replaced_one_has_fenced_claims_the_right_again(kafka: InMemoryKafka) -> None:
    """The replaced one loses its leadership while it initialises its producer."""
    new = TransactionalWriter(kafka, ID, {}, Leadership(True))
    new.write(record(b"1"))
    zombie = TransactionalWriter(kafka, ID, {}, Leadership(True, False))
    with pytest.raises(RetriableError, match="another one leads it"):
        zombie.write(record(b"zombie"))
    new.write(record(b"2"))
    assert list(written(kafka)) == [b"1", b"2"]


def test_a_worker_that_leads_again_fences_the_leader_in_between(kafka: InMemoryKafka) -> None:
    first, second = Leadership(True), Leadership(True)
    one, other = TransactionalWriter(kafka, ID, {}, first), TransactionalWriter(kafka, ID, {}, second)
    assert one.follow_leadership("configs")
    assert not one.follow_leadership("configs"), "it fences others once"
    other.follow_leadership("configs")
    first.ends()
    assert not one.follow_leadership("configs")
    assert kafka.transactional[ID] is not None
    other.write(record(b"other"))
    assert list(written(kafka)) == [b"other"]


def test_a_failed_write_may_be_repeated(kafka: InMemoryKafka) -> None:
    writer = TransactionalWriter(kafka, ID, {}, Leadership(True))
    kafka.fail_sends(RetriableError("the broker is away", code="kafka.unreachable"))
    with pytest.raises(RetriableError, match="cannot write to configs: the broker is away"):
        writer.write(record(b"1"))
    writer.write(record(b"1"))
    assert list(written(kafka)) == [b"1"]


def test_a_record_that_kafka_refuses_is_a_data_error(kafka: InMemoryKafka) -> None:
    writer = TransactionalWriter(kafka, ID, {"max.request.size": "10"}, Leadership(True))
    with pytest.raises(DataError):
        writer.write(record(b"x" * 100))
    writer.write(record(b"1"))
    assert list(written(kafka)) == [b"1"]


def test_a_missing_acl_of_the_transactional_id_is_named() -> None:
    class Refusing(InMemoryKafka):
        def transactional_producer(self, *arguments: Any) -> Any:
            return RefusedProducer()

    class RefusedProducer:
        def init(self) -> None:
            raise InfrastructureError("not authorized (transactional.id)", code="kafka.not_authorized")

        def close(self, timeout: float) -> None:
            del timeout

    with pytest.raises(RetriableError, match=f"cannot use the transactional.id {ID}") as caught:
        TransactionalWriter(Refusing(), ID, {}, Leadership(True)).write(record(b"1"))
    assert f"--operation Write --transactional-id {ID}" in caught.value.hint
