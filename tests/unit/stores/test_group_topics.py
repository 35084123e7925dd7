"""What is wrong with a group's topics and ACLs is named: the resource, the operation, and the command that helps."""

from __future__ import annotations

import pytest

from headrace.broker.in_memory import InMemoryKafka
from headrace.broker.in_memory.admin import InMemoryAdmin
from headrace.errors import InfrastructureError
from headrace.settings import WorkerSettings
from headrace.stores.group_topics import access_findings, ensure_topics, group_topics, required, topic_findings

TOPICS = group_topics(
    WorkerSettings.parse(
        {
            "bootstrap.servers": "x:1",
            "group.id": "g",
            "config.storage.topic": "configs",
            "offset.storage.topic": "offsets",
            "status.storage.topic": "statuses",
        }
    )
)


class RestrictedAdmin(InMemoryAdmin):
    """The admin client of a user who lacks some ACLs."""

    def __init__(self, kafka: InMemoryKafka, operations: dict[str, set[str]], *, group: bool = True) -> None:
        super().__init__(kafka)
        self._operations, self._group = operations, group

    def topic_operations(self, topics: object) -> dict[str, frozenset[str]]:
        return {name: frozenset(allowed) for name, allowed in self._operations.items()}

    def topic_configs(self, topics: object) -> dict[str, dict[str, str]]:
        return {}  # without DESCRIBE_CONFIGS

    def may_read_as(self, group: str) -> bool:
        return self._group


@pytest.fixture
def kafka() -> InMemoryKafka:
    made = InMemoryKafka()
    ensure_topics(made.admin({}), TOPICS)
    return made


def test_topics_that_fit_have_no_findings(kafka: InMemoryKafka) -> None:
    admin = kafka.admin({})
    assert [*access_findings(admin, "g", TOPICS), *topic_findings(admin, TOPICS)] == []


@pytest.mark.parametrize(
    ("operations", "group", "text", "command"),
    [
        (
            {"configs": {"READ", "DESCRIBE"}},
            True,
            "cannot use topic configs (config.storage.topic): the worker's user has no WRITE on TOPIC configs",
            "kafka-acls.sh --add --allow-principal User:NAME --operation Write --topic configs",
        ),
        (
            {"statuses": set()},
            True,
            "cannot use topic statuses (status.storage.topic): the worker's user has no READ on TOPIC statuses",
            "kafka-acls.sh --add --allow-principal User:NAME --operation Read --topic statuses",
        ),
        (
            {},
            False,
            "cannot join the worker group g: the worker's user has no READ on GROUP g",
            "kafka-acls.sh --add --allow-principal User:NAME --operation Read --group g",
        ),
    ],
)
def test_a_missing_acl_is_named_with_the_command_that_adds_it(
    kafka: InMemoryKafka, operations: dict[str, set[str]], group: bool, text: str, command: str
) -> None:
    admin = RestrictedAdmin(kafka, operations, group=group)
    with pytest.raises(InfrastructureError) as refused:
        required(access_findings(admin, "g", TOPICS))
    assert (refused.value.code, refused.value.message) == ("kafka.not_authorized", text)
    assert refused.value.hint.endswith(command)


def test_every_missing_acl_is_found_at_once(kafka: InMemoryKafka) -> None:
    admin = RestrictedAdmin(kafka, {"configs": set(), "offsets": {"READ"}}, group=False)
    assert [finding.key for finding in access_findings(admin, "g", TOPICS)] == [
        "config.storage.topic",
        "config.storage.topic",
        "offset.storage.topic",
        "group.id",
    ]


def test_without_describe_configs_a_warning_says_what_is_not_checked(kafka: InMemoryKafka) -> None:
    warnings = ensure_topics(RestrictedAdmin(kafka, {}), TOPICS)
    assert {warning.severity for warning in warnings} == {"warning"}
    assert "the cleanup.policy of topic configs (config.storage.topic) is not checked" in warnings[0].message
    assert warnings[0].hint.endswith("--operation DescribeConfigs --topic configs")


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_topic_that_is_not_only_compacted_is_refused(policy: str) -> None:
    kafka = InMemoryKafka()
    kafka.create("offsets", 25, {"cleanup.policy": policy})
    with pytest.raises(InfrastructureError, match=f"has cleanup.policy={policy}") as refused:
        ensure_topics(kafka.admin({}), TOPICS)
    assert refused.value.code == "group.topic"
    assert "kafka-configs --alter --topic offsets" in refused.value.hint
