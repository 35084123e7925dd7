"""Numbers as Java converts, reads and writes them."""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal

_WHOLE = re.compile(r"[+-]?[0-9]+")
_REAL = re.compile(r"[+-]?(NaN|Infinity|((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)[fFdD]?)")


def wrapped(value: int, bits: int) -> int:
    """Return the low bits as a signed number."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def narrowed(value: float, bits: int) -> int:
    """Return a double as an integer: saturated to 32 (or 64) bits, then wrapped to fewer; NaN is 0."""
    if math.isnan(value):
        return 0
    bound = 1 << (63 if bits == 64 else 31)
    saturated = bound - 1 if value >= bound else -bound if value <= -bound else int(value)
    return wrapped(saturated, bits)


def single(value: float) -> float:
    """Return the nearest number that 32 bits can hold."""
    try:
        (rounded,) = struct.unpack("f", struct.pack("f", value))
    except OverflowError:
        return math.copysign(math.inf, value)
    return float(rounded)


def read_whole(text: str, bits: int) -> int:
    """Return ``Integer.parseInt`` and its like. Raise ValueError."""
    if not _WHOLE.fullmatch(text):
        raise ValueError("the text is not a whole number")
    value = int(text)
    if not -(1 << (bits - 1)) <= value < 1 << (bits - 1):
        raise ValueError(f"the number does not fit into {bits} bits")
    return value


def read_real(text: str) -> float:
    """Return ``Double.parseDouble``, without hexadecimal numbers. Raise ValueError."""
    stripped = text.strip(" \t\r\n\f\v\0")
    if not _REAL.fullmatch(stripped):
        raise ValueError("the text is not a number")
    return float(stripped if stripped.endswith(("N", "y")) else stripped.rstrip("fFdD"))


def text_of_real(value: float, *, is_single: bool = False) -> str:
    """Return ``Double.toString`` (``Float.toString``) since Java 19: the shortest digits that read back the same."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = Decimal(_shortest(value, is_single=is_single)).as_tuple()
    assert isinstance(exponent, int)
    written = "".join(map(str, digits)).rstrip("0") or "0"
    exponent += len(digits) - 1  # of the first digit
    minus = "-" if sign else ""
    if written == "0":
        return f"{minus}0.0"
    if -3 <= exponent < 7:
        if exponent >= 0:
            whole = written[: exponent + 1].ljust(exponent + 1, "0")
            return f"{minus}{whole}.{written[exponent + 1 :] or '0'}"
        return f"{minus}0.{'0' * (-exponent - 1)}{written}"
    return f"{minus}{written[0]}.{written[1:] or '0'}E{exponent}"


def _shortest(value: float, *, is_single: bool) -> str:
    if not is_single:
        return repr(value)
    for digits in range(1, 10):
        text = f"{value:.{digits}g}"
        if single(float(text)) == value:
            return text
    return repr(value)
