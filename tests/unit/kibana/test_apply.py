"""Packs are applied to a space of Kibana: twice is once, hand edits stay, and only headrace's objects are deleted."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from headrace.errors import ConflictError, InfrastructureError, RetriableError, TaskError
from headrace.kibana.apply import apply, compare
from headrace.kibana.client import KibanaAccess, KibanaClient
from headrace.kibana.pack import Pack
from tests.unit.kibana.conftest import ORDERS
from tests.unit.kibana.fake_kibana import FakeKibana

MakePack = Callable[..., Pack]


def edited(item: dict[str, Any]) -> None:
    panels = json.loads(item["attributes"]["panelsJSON"])
    panels[0]["title"] = "My documents"
    item["attributes"]["panelsJSON"] = json.dumps(panels)


def test_a_pack_is_imported_and_applying_it_again_writes_nothing(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    pack = make_pack()

    first = apply(pack, client)
    assert {change.state for change in first.changes} == {"new"}
    assert kibana.objects().keys() == {(item["type"], item["id"]) for item in pack.objects}
    assert kibana.rules_of().keys() == {rule["id"] for rule in pack.rules}

    kibana.writes.clear()
    second = apply(pack, client)
    assert {change.state for change in second.changes} == {"same"}
    assert kibana.writes == []


def test_a_newer_pack_replaces_an_older_one_and_the_difference_is_shown(
    make_pack: MakePack, client: KibanaClient
) -> None:
    apply(make_pack(), client)

    newer = make_pack(time_range="30d", silence="2h")
    changed = compare(newer, client).of_state("changed")
    assert {change.type for change in changed} == {"dashboard", "rule"}
    lines = [line for change in changed for line in change.differences]
    assert '~ attributes.timeFrom: "now-7d" → "now-30d"' in lines
    assert "~ params.timeWindowSize: 1 → 2" in lines

    apply(newer, client)
    assert {change.state for change in compare(newer, client).changes} == {"same"}


def test_a_dashboard_that_was_edited_in_kibana_is_not_overwritten_unless_told_so(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    apply(make_pack(), client)
    edited(kibana.find("dashboard")[0])
    kibana.writes.clear()

    newer = make_pack(time_range="30d")
    with pytest.raises(ConflictError) as refused:
        apply(newer, client)
    assert refused.value.code == "kibana.edited"
    assert "headrace · search · shop.orders" in refused.value.message
    assert kibana.writes == []

    apply(newer, client, overwrite=True)
    assert {change.state for change in compare(newer, client).changes} == {"same"}


def test_an_edited_rule_is_not_overwritten_and_its_actions_and_tags_stay(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    apply(make_pack(), client)
    rule = next(iter(kibana.rules_of().values()))
    rule["actions"], rule["enabled"] = [{"id": "mail"}], False
    rule["tags"].insert(0, "team-a")

    apply(make_pack(silence="2h"), client)
    rule = next(iter(kibana.rules_of().values()))
    assert (rule["actions"], rule["enabled"], rule["params"]["timeWindowSize"]) == ([{"id": "mail"}], False, 2)
    assert "team-a" in rule["tags"]

    rule["params"]["threshold"] = [5]
    with pytest.raises(ConflictError, match="rule 'headrace · search · no new documents"):
        apply(make_pack(silence="2h"), client)


def test_labels_formats_and_runtime_fields_of_data_views_stay(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    apply(make_pack(), client)
    view = kibana.find("index-pattern")[0]["attributes"]
    view["fieldAttrs"] = '{"total":{"customLabel":"Order value","count":3}}'
    assert {change.state for change in compare(make_pack(), client).changes} == {"same"}

    view["timeFieldName"] = "created_at"
    with pytest.raises(ConflictError, match=r"index-pattern 'headrace · shop\.orders'"):
        apply(make_pack(), client)
    apply(make_pack(), client, overwrite=True)
    view = kibana.find("index-pattern")[0]["attributes"]
    assert view["timeFieldName"] == "updated_at"
    assert "Order value" in view["fieldAttrs"]


def test_prune_deletes_objects_of_headrace_that_the_pack_lacks_and_nothing_else(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    apply(make_pack(), client)
    own = {"type": "dashboard", "id": "own", "attributes": {"title": "Mine"}, "references": []}
    kibana.objects()["dashboard", "own"] = own
    kibana.rules_of()["own"] = {"id": "own", "name": "Mine", "tags": ["team-a"], "params": {}}
    empty = Pack("default", (), ())

    assert {change.state for change in apply(empty, client).changes} == {"surplus"}
    assert len(kibana.find("dashboard")) == 2

    apply(empty, client, prune=True)
    assert [item["id"] for item in kibana.find("dashboard")] == ["own"]
    assert (kibana.find("search"), kibana.find("index-pattern")) == ([], [])
    assert list(kibana.rules_of()) == ["own"]

    apply(make_pack(), client)  # the tags are still there
    assert {change.state for change in compare(make_pack(), client).changes} == {"same"}


@pytest.mark.parametrize(
    ("version", "deprecated"),
    [("8.19.9", {"dashboard", "search"}), ("9.1.0", {"dashboard", "search"}), ("9.5.0", {"search"})],
)
def test_prune_uses_deprecated_requests_only_where_kibana_has_no_others(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient, version: str, deprecated: set[str]
) -> None:
    kibana.version = version
    client.require_supported()
    apply(make_pack(), client)
    kibana.writes.clear()
    apply(Pack("default", (), ()), client, prune=True)
    paths = [path.removeprefix("DELETE /api/").split("/") for path in kibana.writes]
    assert {kind for api, kind, *_ in paths if api == "saved_objects"} == deprecated
    assert not kibana.find("dashboard")
    assert not kibana.find("search")
    assert not kibana.find("index-pattern")


def test_prune_keeps_copies_that_users_made(make_pack: MakePack, kibana: FakeKibana, client: KibanaClient) -> None:
    apply(make_pack(), client)
    ident = str(uuid.uuid4())
    kibana.objects()["dashboard", ident] = {**kibana.find("dashboard")[0], "id": ident}
    rule = next(iter(kibana.rules_of().values()))
    kibana.rules_of()[ident] = {**rule, "id": ident}

    apply(Pack("default", (), ()), client, prune=True)
    assert [item["id"] for item in kibana.find("dashboard")] == [ident]
    assert list(kibana.rules_of()) == [ident]
    assert len(kibana.find("index-pattern")) == 1  # the copy uses it


def test_prune_keeps_a_data_view_that_another_dashboard_uses(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    apply(make_pack(), client)
    view = kibana.find("index-pattern")[0]["id"]
    reference = {"type": "index-pattern", "id": view, "name": "mine"}
    own = {"type": "dashboard", "id": "own", "attributes": {"title": "Mine"}, "references": [reference]}
    kibana.objects()["dashboard", "own"] = own

    apply(Pack("default", (), ()), client, prune=True)
    assert [item["id"] for item in kibana.find("index-pattern")] == [view]
    assert [item["id"] for item in kibana.find("dashboard")] == ["own"]


def test_a_form_that_kibana_migrates_to_is_no_hand_edit(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    def migrate(item: dict[str, Any]) -> dict[str, Any]:
        if item["type"] == "dashboard":
            item["typeMigrationVersion"] = "10.3.0"
            item["attributes"]["sections"] = []
        return item

    kibana.migrate = migrate
    apply(make_pack(), client)
    kibana.writes.clear()

    assert {change.state for change in apply(make_pack(), client).changes} == {"same"}
    assert kibana.writes == []
    assert [change.type for change in compare(make_pack(time_range="30d"), client).of_state("changed")] == ["dashboard"]

    edited(kibana.find("dashboard")[0])
    with pytest.raises(ConflictError, match="edited in Kibana"):
        apply(make_pack(), client)


def test_an_object_of_a_user_with_the_same_id_is_not_overwritten(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    pack = make_pack()
    ident = pack.of_type("dashboard")[0]["id"]
    kibana.objects()["dashboard", ident] = {"type": "dashboard", "id": ident, "attributes": {}, "references": []}

    with pytest.raises(ConflictError) as refused:
        apply(pack, client)
    assert refused.value.code == "kibana.conflict"
    assert kibana.objects()["dashboard", ident]["attributes"] == {}


def test_the_same_sinks_can_be_applied_to_two_spaces(make_pack: MakePack, kibana: FakeKibana) -> None:
    for space in ("team-a", "team-b"):
        client = KibanaClient(KibanaAccess(kibana.url), space)
        apply(make_pack(space=space), client)
        client.close()

    assert len(kibana.find("dashboard", "team-a")) == len(kibana.find("dashboard", "team-b")) == 1
    assert kibana.objects() == {}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (lambda item: item | {"typeMigrationVersion": "10.9.0"}, "more recent version of Kibana"),
        (lambda item: item | {"attributes": item["attributes"] | {"colour": "red"}}, "colour"),
        (
            lambda item: item | {"references": [{"type": "index-pattern", "id": "gone", "name": "x"}]},
            "missing_references: index-pattern gone",
        ),
    ],
)
def test_what_kibana_refuses_is_an_error_with_the_object_and_the_reason(
    broken: Callable[[dict[str, Any]], dict[str, Any]], reason: str, make_pack: MakePack, client: KibanaClient
) -> None:
    pack = make_pack()
    objects = tuple(broken(item) if item["type"] == "dashboard" else item for item in pack.objects)

    with pytest.raises(TaskError) as refused:
        apply(Pack("default", objects, pack.rules), client)
    assert refused.value.code == "kibana.import_refused"
    assert "dashboard 'headrace · search · shop.orders'" in refused.value.message
    assert reason in refused.value.message


def test_an_object_that_kibana_stores_differently_every_time_is_an_error(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    counter = iter(range(100))

    def change(item: dict[str, Any]) -> dict[str, Any]:
        if item["type"] == "dashboard":
            item["attributes"]["hits"] = next(counter)
        return item

    kibana.migrate = change
    with pytest.raises(TaskError) as refused:
        apply(make_pack(), client)
    assert refused.value.code == "kibana.not_stored"


def test_a_kibana_without_an_encryption_key_is_named(
    make_pack: MakePack, kibana: FakeKibana, client: KibanaClient
) -> None:
    kibana.encryption_key = False

    with pytest.raises(InfrastructureError) as refused:
        apply(make_pack(), client)
    assert refused.value.code == "kibana.no_encryption_key"
    assert "xpack.encryptedSavedObjects.encryptionKey" in refused.value.hint


@pytest.mark.parametrize(
    ("version", "code"), [("8.18.3", "kibana.too_old"), ("7.17.0", "kibana.too_old"), ("unknown", "kibana.not_kibana")]
)
def test_a_kibana_that_cannot_import_packs_is_refused(
    version: str, code: str, kibana: FakeKibana, client: KibanaClient
) -> None:
    kibana.version = version

    with pytest.raises(InfrastructureError) as refused:
        client.require_supported()
    assert refused.value.code == code


def test_a_kibana_that_needs_a_login_is_told_from_another_server(kibana: FakeKibana, client: KibanaClient) -> None:
    kibana.hides_version = True

    with pytest.raises(InfrastructureError) as refused:
        client.require_supported()
    assert refused.value.code == "kibana.denied"
    assert "HEADRACE_KIBANA_API_KEY" in refused.value.hint


def test_credentials_are_sent_and_never_shown(kibana: FakeKibana) -> None:
    kibana.authorization = "ApiKey right-key"
    client = KibanaClient(KibanaAccess(kibana.url.replace("//", "//elastic:s3cret-pass@"), "wrong-key"), "default")

    with pytest.raises(InfrastructureError) as refused:
        client.tagged("x")
    client.close()
    assert refused.value.code == "kibana.denied"
    assert "s3cret-pass" not in str(refused.value)

    client = KibanaClient(KibanaAccess(kibana.url, "right-key"), "default")
    assert client.tagged("x") == []
    client.close()


def test_a_kibana_that_cannot_be_reached_is_retried_by_the_caller() -> None:
    client = KibanaClient(KibanaAccess("http://127.0.0.1:9"), "default")

    with pytest.raises(RetriableError) as refused:
        client.require_supported()
    client.close()
    assert refused.value.code == "kibana.unreachable"


def test_fields_that_disappear_from_a_sink_change_its_dashboard_only(make_pack: MakePack, client: KibanaClient) -> None:
    apply(make_pack(), client)
    fewer = make_pack([field for field in ORDERS if field.path != "items"])

    states = {change.type: change.state for change in compare(fewer, client).changes if change.state != "same"}
    assert states == {"dashboard": "changed", "search": "changed"}
