"""One text of several reasons: in the order in which they arose, published only when it changes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from headrace import StatusReasons

CHANGES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["slow", "away", None])))


def test_reasons_are_shown_in_the_order_in_which_they_arose() -> None:
    reasons = StatusReasons()
    reasons.set("orders", "orders is locked")
    reasons.set("kafka", "Kafka does not answer")
    reasons.set("orders", "orders is still locked")
    assert reasons.current == "orders is still locked; Kafka does not answer"
    reasons.set("orders", None)
    reasons.set("orders", "orders is locked")
    assert reasons.current == "Kafka does not answer; orders is locked"
    assert "orders" in reasons


def test_equal_texts_of_two_causes_are_shown_once() -> None:
    reasons = StatusReasons()
    reasons.set("framework", "it is away")
    reasons.set("plugin", "it is away")
    assert reasons.current == "it is away"
    reasons.set("framework", None)
    assert reasons.current == "it is away"


@given(CHANGES)
def test_only_changes_of_the_text_are_published_each_once(changes: list[tuple[str, str | None]]) -> None:
    published: list[str | None] = [None]
    reasons = StatusReasons(published.append)
    left: dict[str, str] = {}
    for cause, reason in changes:
        reasons.set(cause, reason)
        left = {**left, cause: reason} if reason else {key: text for key, text in left.items() if key != cause}
        assert published[-1] == reasons.current
        assert set((reasons.current or "").split("; ")) - {""} == set(left.values())
    assert all(one != two for one, two in itertools.pairwise(published))
    reasons.clear()
    assert published[-1] is None
