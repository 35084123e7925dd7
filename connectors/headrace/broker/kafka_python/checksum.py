"""CRC-32C in C for kafka-python, which computes it in Python unless the LGPL package ``crc32c`` is installed.

Every record batch carries the checksum, so this is the largest part of kafka-python's cost. See decision record 120.
"""

from __future__ import annotations

import google_crc32c
from kafka.record import default_records, util


def native_crc32c(data: memoryview) -> int:
    """Return the CRC-32C of ``data``. ``google_crc32c`` requires bytes; the copy is cheap."""
    return int(google_crc32c.value(bytes(data)))


def install() -> None:
    """Make kafka-python use :func:`native_crc32c`, unless it has found a C implementation itself."""
    if util.crc32c_c is None and google_crc32c.implementation == "c":
        default_records.calc_crc32c = native_crc32c
