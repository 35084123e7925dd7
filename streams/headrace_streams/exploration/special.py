"""Special functions of scipy with types: the only module that imports scipy.

All functions take and return float64 arrays or floats, elementwise.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]


def sigmoid(x: Floats | float) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return cast(Floats, special.expit(x))


def logit(p: Floats | float) -> Floats:
    """Return log(p / (1 - p)); -inf and inf at 0 and 1."""
    return cast(Floats, special.logit(p))


def normal_cdf(x: Floats | float) -> Floats:
    """Return the distribution function of the standard normal distribution."""
    return cast(Floats, special.ndtr(x))


def normal_quantile(p: Floats | float) -> Floats:
    """Return the quantile of the standard normal distribution; -inf and inf at 0 and 1."""
    return cast(Floats, special.ndtri(p))


def beta_logit_mean(a: Floats, b: Floats) -> Floats:
    """Return the mean of logit(p) for p ~ Beta(a, b): digamma(a) - digamma(b)."""
    return cast(Floats, special.psi(a) - special.psi(b))


def beta_logit_variance(a: Floats, b: Floats) -> Floats:
    """Return the variance of logit(p) for p ~ Beta(a, b): trigamma(a) + trigamma(b)."""
    return cast(Floats, special.zeta(2, a) + special.zeta(2, b))


def log_beta(a: Floats | float, b: Floats | float) -> Floats:
    """Return the logarithm of the beta function."""
    return cast(Floats, special.betaln(a, b))


def x_log_y(x: Floats | float, y: Floats | float) -> Floats:
    """Return x * log(y), 0 where x is 0."""
    return cast(Floats, special.xlogy(x, y))


def chi_squared_tail(x: float, degrees: float) -> float:
    """Return the probability that a chi-squared variable with ``degrees`` degrees of freedom is above ``x``."""
    return float(special.chdtrc(degrees, x))


def student_quantile(degrees: float, p: float) -> float:
    """Return the quantile of Student's t distribution with ``degrees`` degrees of freedom."""
    return float(special.stdtrit(degrees, p))
