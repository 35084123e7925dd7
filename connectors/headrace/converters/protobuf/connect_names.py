"""Names that Connect's ProtobufData uses in schemas."""

from __future__ import annotations

NAMESPACE = "io.confluent.connect.protobuf"
ENUM = f"{NAMESPACE}.Enum"
UNION = f"{NAMESPACE}.Union"
TAG = f"{NAMESPACE}.Tag"
TYPE = f"{NAMESPACE}.Type"
WRAPPER = f"{NAMESPACE}.Wrapper"
DEFAULT_NAME = "ConnectDefault"
CONNECT_TYPE = "connect.type"
PRECISION, SCALE = "precision", "scale"
CONNECT_PRECISION = "connect.decimal.precision"

DECIMAL_MESSAGE = "confluent.type.Decimal"
DATE_MESSAGE = "google.type.Date"
TIME_MESSAGE = "google.type.TimeOfDay"
TIMESTAMP_MESSAGE = "google.protobuf.Timestamp"
FILES = {
    DECIMAL_MESSAGE: "confluent/type/decimal.proto",
    DATE_MESSAGE: "google/type/date.proto",
    TIME_MESSAGE: "google/type/timeofday.proto",
    TIMESTAMP_MESSAGE: "google/protobuf/timestamp.proto",
}
WRAPPERS_FILE = "google/protobuf/wrappers.proto"
META_FILE = "confluent/meta.proto"
FIELD_META = 1088
"""The number of the option ``(confluent.field_meta)``."""
