"""Features of an exploration model: columns of a row as terms of a linear predictor.

A term is a column (``country``), a product of columns (``country*category``), or a number with a declared centre and
scale. Each value of a categorical term is a level with a weight of its own. Levels are text: 1, "1" and 1.0 are three
spellings of two levels ("1" and "1.0"), null and NaN are the level "missing", and booleans are "true" and "false".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headrace_streams.exploration.model import Row
from headrace_streams.exploration.special import Floats

MISSING = "missing"
_SEPARATOR = "\x1f"
"""Unit separator: it stands between the parts of a product's level, so ("a*b", "c") and ("a", "b*c") differ."""


@dataclass(frozen=True)
class Term:
    """One term of the linear predictor.

    ``deviation`` is the standard deviation of the prior of its weights, in log-odds. With ``scale`` the term is a
    number with one weight: (value - centre) / scale, limited to ±``limit``; a missing number counts as the centre.
    A term without columns is the constant 1. The weights of a ``shared`` term are the same for all candidates of a
    request (its columns describe the user), so they do not change the order of the candidates.
    """

    name: str
    columns: tuple[str, ...]
    deviation: float = 0.4
    centre: float = 0.0
    scale: float | None = None
    limit: float = 5.0
    shared: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.deviation) and self.deviation > 0):
            raise ValueError(f"term {self.name!r}: the deviation must be a positive number, got {self.deviation}")
        if self.scale is not None and (len(self.columns) != 1 or not self.scale > 0):
            raise ValueError(f"term {self.name!r}: a number has one column and a positive scale")

    def level(self, row: Row) -> str:
        """Return the level of a categorical term; the level of a number is always the same."""
        if self.scale is not None or not self.columns:
            return ""
        if len(self.columns) == 1:
            return level_of(row.get(self.columns[0]))
        return _SEPARATOR.join(level_of(row.get(column)) for column in self.columns)

    def value(self, row: Row) -> float:
        """Return the factor of the weight: 1 for a categorical term.

        Raises:
            TypeError: the column of a number holds something else.
        """
        if self.scale is None:
            return 1.0
        found = row.get(self.columns[0])
        if found is None:
            return 0.0
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise TypeError(f"feature {self.name!r} needs a number in column {self.columns[0]!r}, got {found!r}")
        if math.isnan(found):
            return 0.0
        scaled = (float(found) - self.centre) / self.scale
        return max(-self.limit, min(self.limit, scaled))


def level_of(value: object) -> str:
    """Return the text of a level."""
    if type(value) is str:
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return MISSING
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def parse_terms(declared: Sequence[str], *, request_columns: Collection[str] = ()) -> tuple[Term, ...]:
    """Return categorical terms from their names; ``a*b`` is a product of columns.

    A term of ``request_columns`` only is shared by all candidates of a request.
    """
    terms = []
    for name in declared:
        columns = tuple(part.strip() for part in name.split("*"))
        terms.append(Term(name, columns, shared=all(column in request_columns for column in columns)))
    return tuple(terms)


@dataclass(frozen=True)
class EncodedRows:
    """n rows of t terms, all of shape (n, t): the slot of each weight, its factor, and the variance of the prior.

    Slot 0 stands for all levels that have no weight yet; the prior variance of the others is 0.
    """

    slots: npt.NDArray[np.int64]
    factors: Floats
    prior_variance: Floats


class LevelTable:
    """Slots of the weights: which level of which term is stored at which index. Slot 0 is never given away."""

    def __init__(self, terms: Sequence[Term]) -> None:
        names = [term.name for term in terms]
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"feature {duplicate!r} is declared twice")
        self.terms = tuple(terms)
        self._slots: list[dict[str, int]] = [{} for _ in terms]

    def encode(self, rows: Sequence[Row]) -> EncodedRows:
        """Return the slots and factors of ``rows``. It changes nothing."""
        shape = (len(rows), len(self.terms))
        slots = np.zeros(shape, dtype=np.int64)
        factors = np.ones(shape)
        for position, (term, known) in enumerate(zip(self.terms, self._slots, strict=True)):
            if term.scale is not None:
                factors[:, position] = [term.value(row) for row in rows]
                slots[:, position] = known.get("", 0)
            elif len(term.columns) == 1:
                column = term.columns[0]
                values = [row.get(column) for row in rows]
                # A text is its own level; this is the inner loop of every selection.
                slots[:, position] = [known.get(v if v.__class__ is str else level_of(v), 0) for v in values]
            else:
                slots[:, position] = [known.get(term.level(row), 0) for row in rows]
        variances = np.array([term.deviation**2 for term in self.terms])
        return EncodedRows(slots, factors, (slots == 0) * factors**2 * variances)

    def locate(self, row: Row, assign: Callable[[Term], int]) -> list[tuple[int, float]]:
        """Return slot and factor of each term of a row; ``assign`` returns the slot of a level without one."""
        found = []
        for term, known in zip(self.terms, self._slots, strict=True):
            level = term.level(row)
            slot = known.get(level)
            if slot is None:
                slot = assign(term)
                known[level] = slot
            found.append((slot, term.value(row)))
        return found

    def remove(self, slot: int) -> None:
        """Take a slot from its level."""
        for known in self._slots:
            for level, held in known.items():
                if held == slot:
                    del known[level]
                    return
        raise KeyError(slot)

    def to_list(self) -> list[dict[str, int]]:
        """Return level → slot for each term, in the order of the terms."""
        return [dict(known) for known in self._slots]

    def restore(self, slots: Sequence[Mapping[str, int]]) -> None:
        """Replace all slots.

        Raises:
            ValueError: the number of terms differs.
        """
        if len(slots) != len(self.terms):
            raise ValueError(f"the snapshot has {len(slots)} features, the configuration has {len(self.terms)}")
        self._slots = [dict(known) for known in slots]
