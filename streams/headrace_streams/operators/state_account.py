"""The account of the records that a stateful operator has taken, in the segment of its state that has the stream time.

It is a part of the state, so it says what became of the records up to the committed offset, also after a failure. See
:mod:`headrace.step_accounting` for the terms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace import Segments
from headrace_streams.operators.grouping import TIME_SEGMENT

_ACCOUNT = "account"


def stored_account(state: Segments, key: str = _ACCOUNT) -> Mapping[str, int]:
    """Return the account in a state; empty before the first record."""
    account: Mapping[str, int] = state.get(TIME_SEGMENT, {}).get(key, {})
    return account


def time_and_account(state: Segments, now: int, amounts: Mapping[str, int]) -> dict[Any, Any]:
    """Return the changes of the segment: the stream time, and the account with the amounts of a batch."""
    return {"time": now, _ACCOUNT: added(stored_account(state), amounts)}


def added(account: Mapping[str, int], amounts: Mapping[str, int]) -> dict[str, int]:
    """Return the account with the amounts of a batch, all of whose terms it has then."""
    return {**account, **{term: account.get(term, 0) + amount for term, amount in amounts.items()}}
