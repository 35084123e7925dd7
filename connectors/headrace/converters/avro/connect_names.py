"""Names that Connect's AvroData uses in schemas."""

from __future__ import annotations

NAMESPACE = "io.confluent.connect.avro"
DEFAULT_NAME = f"{NAMESPACE}.ConnectDefault"
UNION = f"{NAMESPACE}.Union"
ENUM = f"{NAMESPACE}.Enum"
MAP_ENTRY = f"{NAMESPACE}.MapEntry"
RECORD_DOC = f"{NAMESPACE}.record.doc"
FIELD_DOC = f"{NAMESPACE}.field.doc."
ENUM_DOC = f"{NAMESPACE}.enum.doc."
ENUM_DEFAULT = f"{NAMESPACE}.enum.default."
FIELD_DEFAULT = f"{NAMESPACE}.field.default"
FIXED_SIZE = "connect.fixed.size"
PRECISION = "connect.decimal.precision"
USUAL_PRECISION = 64
"""The precision that AvroData writes when Connect's schema names none."""
