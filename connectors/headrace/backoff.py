"""When to try again: exponential waits with jitter, capped.

Jitter (a random wait between half the ceiling and the ceiling) spreads clients that failed together
(https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Seconds between tries: random in [c/2, c], c = min(``longest``, ``first`` · 2^n); ``tries`` None = for ever."""

    first: float = 0.1
    longest: float = 30.0
    tries: int | None = None
    jitter: random.Random = field(default_factory=random.Random, compare=False, repr=False)

    def waits(self) -> Iterator[float]:
        """One wait per failed try; ends when the tries are used up."""
        attempt = 0
        while self.tries is None or attempt < self.tries:
            # The exponent is bounded: an outage of days must not overflow a float.
            ceiling = min(self.longest, self.first * 2 ** min(attempt, 60))
            # Never below half the ceiling: a retry storm on a broken server helps nobody.
            yield self.jitter.uniform(ceiling / 2, ceiling)
            attempt += 1
