"""``connector.client.config.override.policy``: which client settings connectors may override."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from headrace.broker.connector_clients import OverridePolicy
from headrace.validation import Validator

from .test_validation import SINK, SOURCE


def findings(policy: OverridePolicy, validator: Validator, overrides: Mapping[str, str]) -> list[tuple[str, str]]:
    limited = Validator(validator.registry, validator.interpolator, policy)
    return [(item.code, item.key) for item in limited.connector({**SINK, **overrides})[1] if item.severity == "error"]


OVERRIDES = {"consumer.override.max.poll.records": "5", "producer.override.sasl.mechanism": "PLAIN"}


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        (OverridePolicy("All"), []),
        (OverridePolicy("None"), ["producer.override.sasl.mechanism", "consumer.override.max.poll.records"]),
        (OverridePolicy("Principal"), ["consumer.override.max.poll.records"]),
        (OverridePolicy("Allowlist", frozenset({"max.poll.records"})), ["producer.override.sasl.mechanism"]),
        (OverridePolicy("Allowlist"), ["producer.override.sasl.mechanism", "consumer.override.max.poll.records"]),
    ],
)
def test_only_settings_that_the_policy_allows_are_overridden(
    validator: Validator, policy: OverridePolicy, refused: list[str]
) -> None:
    found = findings(policy, validator, OVERRIDES)
    assert found == [("config.override_not_allowed", name) for name in refused]


def test_the_message_is_that_of_kafka_connect(validator: Validator) -> None:
    limited = Validator(validator.registry, validator.interpolator, OverridePolicy("Principal"))
    (finding,) = limited.connector({**SOURCE, "producer.override.acks": "all"})[1]
    assert finding.message == (
        "The 'Principal' policy does not allow 'acks' to be overridden in the connector configuration."
    )
