"""Decimals as their unscaled bytes."""

from __future__ import annotations

from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[])


def unscaled(value: Decimal, scale: int) -> bytes:
    """Return the unscaled two's complement bytes of a decimal. Raise ValueError when it has more digits."""
    if not value.is_finite():
        raise ValueError("NaN and infinity are no decimals with a scale")
    scaled = value.scaleb(scale, _EXACT)
    number = int(scaled)
    if scaled != number:
        raise ValueError(f"a decimal with more than {scale} digits behind the point, the scale of its schema")
    size = (number if number >= 0 else ~number).bit_length() // 8 + 1
    return number.to_bytes(size, "big", signed=True)


def from_unscaled(value: bytes, scale: int) -> Decimal:
    """Return the decimal of unscaled bytes."""
    return Decimal(int.from_bytes(value, "big", signed=True)).scaleb(-scale, _EXACT)
