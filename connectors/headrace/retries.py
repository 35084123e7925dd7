"""Retries: exponential waits with jitter between the attempts at a call that raises RetriableError.

:func:`retry` waits on the calling thread. A loop that has other work while it waits (a sink task polls its consumer,
a source task watches deliveries) keeps a :class:`Backoff` and asks it when the next attempt is due. :func:`wait_for`
waits for a state that nothing reports: no call fails meanwhile, so there is nothing to retry.

Jitter (a random wait between half the ceiling and the ceiling) spreads clients that failed together
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from headrace.errors import RetriableError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and for how long to retry.

    The wait after failure n is random in [c/2, c] with c = min(``longest``, ``first`` · 2^n) seconds, or the
    ``delay`` of the RetriableError when it has one.
    """

    first: float = 0.1
    longest: float = 30.0
    tries: int | None = None
    """Failures that are followed by another attempt; None = no limit."""
    timeout: float | None = None
    """Seconds after the first failure in which another attempt may begin; None = no limit."""
    jitter: random.Random = field(default_factory=random.Random, compare=False, repr=False)

    def waits(self) -> Iterator[float]:
        """Yield one wait per failure, without regard to ``timeout``; end when the tries are used up."""
        attempt = 0
        while self.tries is None or attempt < self.tries:
            # The exponent is bounded: an outage of days must not overflow a float.
            ceiling = min(self.longest, self.first * 2 ** min(attempt, 60))
            # Never below half the ceiling: attempts in quick succession keep a broken server broken.
            yield self.jitter.uniform(ceiling / 2, ceiling)
            attempt += 1


FOREVER = RetryPolicy()
"""0.1 to 30 seconds between attempts, without end."""


RESTARTS = RetryPolicy(first=10.0, longest=300.0)
"""Of what failed by an InfrastructureError: 5 seconds to 5 minutes. Slow, because databases may lock an account after
some refused passwords."""


class Backoff:
    """The failures of one piece of work since it last succeeded, and the waits after them. Used from one thread."""

    def __init__(self, policy: RetryPolicy = FOREVER, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._monotonic = monotonic
        self._waits: Iterator[float] | None = None
        self._deadline: float | None = None
        self.failures = 0
        """Failures since the last :meth:`reset`."""

    def next_wait(self, error: RetriableError) -> float | None:
        """Count a failure; return the seconds until the next attempt, or None when the policy allows no other."""
        if self._waits is None:
            self._waits = self._policy.waits()
            if self._policy.timeout is not None:
                self._deadline = self._monotonic() + self._policy.timeout
        self.failures += 1
        wait = next(self._waits, None)
        if wait is None:
            return None
        if error.delay is not None:
            wait = error.delay
        if self._deadline is not None and self._monotonic() + wait > self._deadline:
            return None
        return wait

    def reset(self) -> int:
        """Note a success; return how many failures preceded it."""
        failures, self.failures, self._waits, self._deadline = self.failures, 0, None, None
        return failures


def retry(
    call: Callable[[], T],
    *,
    policy: RetryPolicy = FOREVER,
    stop: threading.Event | None = None,
    on_failure: Callable[[RetriableError, int], None] | None = None,
    on_recovery: Callable[[int], None] | None = None,
) -> T:
    """Return the result of ``call``, which is called again after every RetriableError.

    ``on_failure`` is given the error and the number of failures so far before each wait, ``on_recovery`` the number
    of failures when a later attempt succeeds. Raise the last RetriableError when ``policy`` allows no other attempt,
    or at once when ``stop`` is set, also during a wait. Other exceptions pass.
    """
    try:
        return call()
    except RetriableError as error:
        failure = error
    backoff = Backoff(policy)
    sleep = stop or threading.Event()
    while (wait := backoff.next_wait(failure)) is not None:
        if on_failure is not None:
            on_failure(failure, backoff.failures)
        if sleep.wait(wait):
            break
        try:
            result = call()
        except RetriableError as error:
            failure = error
        else:
            if on_recovery is not None:
                on_recovery(backoff.failures)
            return result
    raise failure


def wait_for(condition: Callable[[], T], *, timeout: float, interval: float) -> T:
    """Return the first true result of ``condition``, or its last result when ``timeout`` seconds have passed.

    It is called every ``interval`` seconds. Use it only where no event or notification can be awaited.
    """
    deadline = time.monotonic() + timeout
    while not (result := condition()) and time.monotonic() < deadline:
        time.sleep(interval)
    return result
