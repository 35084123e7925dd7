"""Checks JSON values with all keywords of a JSON Schema: the only user of ``jsonschema_rs``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jsonschema_rs

from headrace import DataError
from headrace.converters.json_schema.document import JsonSchemaDocument, invalid


class JsonSchemaValidator:
    """Checks values. References are resolved among the registered schemas only; nothing is downloaded."""

    def __init__(self, document: JsonSchemaDocument, label: str) -> None:
        """Raise DataError for a schema that is not valid."""
        self._label = label
        root = document.root
        # As Confluent's converter reads a schema that does not name its dialect.
        names_dialect = isinstance(root, dict) and "$schema" in root
        make = jsonschema_rs.validator_for if names_dialect else jsonschema_rs.Draft7Validator
        try:
            known = jsonschema_rs.Registry([(name, found) for name, found in document.documents.items() if name])
            self._validator = make(root, registry=known, retriever=_not_registered)
        except ValueError as error:  # also ValidationError and ReferencingError
            raise invalid(str(error).partition("\n")[0]) from error

    def check(self, values: Sequence[Any]) -> None:
        """Raise DataError for the first value that the schema does not allow."""
        is_valid = self._validator.is_valid
        for value in values:
            if not is_valid(value):
                # Without the text of the error, which holds the record's contents.
                error = next(self._validator.iter_errors(value))
                place = "/".join(map(str, error.instance_path))
                raise DataError(
                    f"the record does not match the JSON Schema {self._label}: "
                    f"the keyword '{error.kind.name}' does not allow {f'the value at {place}' if place else 'it'}",
                    code="json_schema.not_allowed",
                    hint="fix the producer, or set json.fail.invalid.schema: false",
                )


def _not_registered(address: str) -> Any:
    raise ValueError(f"the schema registry has no reference '{address}'")
