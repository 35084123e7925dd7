"""Names that Connect's JsonSchemaData uses in schemas."""

from __future__ import annotations

NAMESPACE = "io.confluent.connect.json"
ENUM = f"{NAMESPACE}.Enum"
ONE_OF = f"{NAMESPACE}.OneOf"
NULL_SYMBOL = "<NULL>"
TYPE, INDEX, VERSION, PARAMETERS = "connect.type", "connect.index", "connect.version", "connect.parameters"
MAP, BYTES = "map", "bytes"
