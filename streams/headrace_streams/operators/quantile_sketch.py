"""Approximate quantiles, as a value in the state: a DDSketch, the numbers of values in logarithmic buckets.

A quantile is within 1 % of the value that the sorted values have at its rank (C. Masson, J. Rim, H. Lee, "DDSketch: a
fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019, arXiv:1908.10693). At most
:data:`MOST_BUCKETS` buckets are kept, which is enough for values of 20 orders of magnitude and one sign; then those
nearest to zero are merged, and only quantiles among these are less exact.

The sketch is a dict. The keys are texts, because the state is JSON: ``0``, or the bucket's number after the sign.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate, pairwise
from typing import Any

ACCURACY = 0.01
"""The relative error."""
MOST_BUCKETS = 2_400
_KEPT = 2_100
_GAMMA = (1 + ACCURACY) / (1 - ACCURACY)
_SCALE = 1 / math.log(_GAMMA)
_MIDDLE = 2 / (_GAMMA + 1)

Sketch = dict[str, int]


def add_value(sketch: Sketch, value: Any) -> None:
    """Count a number. Raise TypeError for one that is not finite as a double."""
    try:
        number = float(value)
        if number == 0:
            key = "0"
        else:
            bucket = math.ceil(math.log(abs(number)) * _SCALE)
            key = f"+{bucket}" if number > 0 else f"-{bucket}"
    except (OverflowError, ValueError) as error:
        raise TypeError(f"{value} is not a finite number") from error
    sketch[key] = sketch.get(key, 0) + 1
    if len(sketch) > MOST_BUCKETS:
        _collapse(sketch)


def add_sketch(sketch: Sketch, other: Mapping[str, int]) -> None:
    """Count the values of another sketch."""
    for key, count in other.items():
        sketch[key] = sketch.get(key, 0) + count
    if len(sketch) > MOST_BUCKETS:
        _collapse(sketch)


def quantile(sketch: Mapping[str, int] | None, share: float) -> float | None:
    """Return the value below which a share of the values is; None without values."""
    if not sketch:
        return None
    ordered = sorted((_value(key), count) for key, count in sketch.items())
    ends = list(accumulate(count for _, count in ordered))
    return ordered[bisect_right(ends, math.floor(share * (ends[-1] - 1)))][0]


def _value(key: str) -> float:
    if key == "0":
        return 0.0
    value = _MIDDLE * math.exp(int(key[1:]) / _SCALE)
    return value if key[0] == "+" else -value


def _collapse(sketch: Sketch) -> None:
    """Merge the buckets nearest to zero of each sign, many at once, because it takes a search for them."""
    surplus = len(sketch) - _KEPT
    nearest = sorted((int(key[1:]), key[0]) for key in sketch if key != "0")[: surplus + 2]
    for sign in "+-":
        buckets = [bucket for bucket, found in nearest if found == sign]
        for bucket, following in pairwise(buckets):
            sketch[f"{sign}{following}"] += sketch.pop(f"{sign}{bucket}")
