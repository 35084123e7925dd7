"""Compares a pack with a space of Kibana, and applies it. Hand edits are found by marks, and kept.

Every dashboard and saved search has the digest of its content in its description; every rule has it in a tag. If the
content in Kibana has another digest, a user has changed it, and nothing is written without ``overwrite``.
Kibana may store an object in a newer form than it was given: then the mark gets a second digest, of the stored form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from headrace.errors import ConflictError, TaskError
from headrace.kibana.alert_rules import (
    AlertRule,
    is_made_by_headrace,
    marked_rule,
    rule_content,
    rule_mark,
    with_tags_of,
)
from headrace.kibana.client import ImportProblem, KibanaClient
from headrace.kibana.content_diff import differences
from headrace.kibana.ids import content_hash, is_object_id, object_id
from headrace.kibana.pack import Pack, title_of
from headrace.kibana.saved_objects import TAG, VIEW_PREFIX, SavedObject, content, mark_of, marked

State = Literal["new", "changed", "edited", "same", "surplus"]
_RULE = "rule"


@dataclass(frozen=True)
class Change:
    """One object: what would happen to it. ``differences``: lines from Kibana's content to the pack's."""

    type: str
    id: str
    title: str
    state: State
    differences: tuple[str, ...] = ()


@dataclass(frozen=True)
class SpaceDiff:
    """All objects of a pack compared with a space. ``present``: the objects of the space, by type and id."""

    changes: list[Change]
    present: Mapping[tuple[str, str], Any] = field(repr=False)

    def of_state(self, *states: State) -> list[Change]:
        """Return the changes of these states."""
        return [change for change in self.changes if change.state in states]


def compare(pack: Pack, client: KibanaClient) -> SpaceDiff:
    """Return what applying the pack would change. Raise the errors of :class:`KibanaClient`."""
    # Tags and data views may be there without a dashboard, after a prune for example.
    found = [*client.tagged(object_id("tag", pack.space, TAG)), *client.of_types("index-pattern", "tag")]
    present: dict[tuple[str, str], Any] = {(item["type"], item["id"]): item for item in found}
    for rule in client.tagged_rules(TAG):
        present[_RULE, rule["id"]] = rule
    for rule in pack.rules:  # also those that have lost their tag
        if (_RULE, rule["id"]) not in present and (untagged := client.rule(rule["id"])) is not None:
            present[_RULE, rule["id"]] = untagged
    changes = [_change(item["type"], item, present.get((item["type"], item["id"]))) for item in pack.objects]
    changes += [_change(_RULE, rule, present.get((_RULE, rule["id"]))) for rule in pack.rules]
    changes += _surplus(pack, present)
    return SpaceDiff(changes, present)


def apply(pack: Pack, client: KibanaClient, *, overwrite: bool = False, prune: bool = False) -> SpaceDiff:
    """Make the space equal to the pack, and compare again. Return what was changed.

    Raise ConflictError, before anything is written, for objects that were edited by hand, without ``overwrite``;
    TaskError when Kibana refuses an object or stores something else.
    """
    diff = compare(pack, client)
    if (edited := diff.of_state("edited")) and not overwrite:
        titles = ", ".join(f"{each.type} '{each.title}'" for each in edited)
        raise ConflictError(
            f"{titles}: edited in Kibana since headrace applied it; nothing was written",
            code="kibana.edited",
            hint="see `headrace kibana diff`; save the edit as a copy in Kibana, then use --overwrite",
        )
    _apply_objects(pack, diff, client, overwrite=overwrite)
    _apply_rules(pack, diff, client)
    if prune:
        _prune(diff, client)
    _verify(pack, client)
    return diff


def _change(kind: str, item: Mapping[str, Any], present: Mapping[str, Any] | None) -> Change:
    title = title_of(dict(item))
    if present is None:
        return Change(kind, item["id"], title, "new")
    ours, theirs = _content(kind, item), _content(kind, present)
    built, stored = _mark(kind, present)
    if kind in ("index-pattern", "tag"):
        state: State = "same" if ours == theirs else "edited"
    elif not built or content_hash(theirs) != stored:
        state = "edited"
    else:
        state = "same" if built == content_hash(ours) else "changed"
    return Change(kind, item["id"], title, state, () if state == "same" else tuple(differences(theirs, ours)))


def _surplus(pack: Pack, present: Mapping[tuple[str, str], Any]) -> Iterator[Change]:
    """Yield objects that headrace made and the pack does not have, without copies that users made of them."""
    known = {(item["type"], item["id"]) for item in pack.objects} | {(_RULE, rule["id"]) for rule in pack.rules}
    for (kind, ident), item in present.items():
        if (kind, ident) not in known and _is_ours(kind, item, pack.space):
            yield Change(kind, ident, title_of(item), "surplus")


def _is_ours(kind: str, item: Mapping[str, Any], space: str) -> bool:
    """Return whether headrace made an object that has its tag, or a data view. Tags are left: users may use them."""
    if kind == _RULE:
        return is_made_by_headrace(item, space)
    named = kind != "index-pattern" or str(item["attributes"].get("name", "")).startswith(VIEW_PREFIX)
    return kind != "tag" and named and is_object_id(item["id"])


def _apply_objects(pack: Pack, diff: SpaceDiff, client: KibanaClient, *, overwrite: bool) -> None:
    states = {(change.type, change.id): change.state for change in diff.changes}
    items = [item for item in pack.objects if states[item["type"], item["id"]] != "same"]
    new = [item for item in items if states[item["type"], item["id"]] == "new"]
    others = [_with_users_parts(item, diff) for item in items if item not in new]
    # Objects that reference tags or data views which exist already need no copy of them in the import.
    _require_accepted(client.import_objects(new, overwrite=overwrite), pack)
    _require_accepted(client.import_objects(others, overwrite=True), pack)
    _mark_stored_forms(pack, items, client)


def _with_users_parts(item: SavedObject, diff: SpaceDiff) -> SavedObject:
    """Return a data view with the labels, formats and runtime fields that users gave it."""
    present = diff.present.get((item["type"], item["id"]))
    if item["type"] != "index-pattern" or present is None:
        return item
    ours = content(item)
    kept = {**item["attributes"], **present["attributes"]}
    return {**item, "attributes": {**kept, **{name: value for name, value in ours.items() if value is not None}}}


def _mark_stored_forms(pack: Pack, written: Iterable[SavedObject], client: KibanaClient) -> None:
    """Note the digest of the stored form of objects that Kibana stores in another form."""
    stored = {item["id"]: item for item in client.tagged(object_id("tag", pack.space, TAG))}
    migrated = []
    for item in written:
        found = stored.get(item["id"])
        if item["type"] in ("dashboard", "search") and found is not None:
            digest = content_hash(content(found))
            if digest != mark_of(item)[0]:
                migrated.append(marked(found, digest))
    _require_accepted(client.import_objects(migrated, overwrite=True), pack)


def _apply_rules(pack: Pack, diff: SpaceDiff, client: KibanaClient) -> None:
    states = {change.id: change.state for change in diff.changes if change.type == _RULE}
    for rule in pack.rules:
        if states[rule["id"]] == "same":
            continue
        present = diff.present.get((_RULE, rule["id"]))
        if present is None:
            client.create_rule(rule)
        else:
            client.update_rule(_with_users_rule_parts(rule, present))
        found = client.rule(rule["id"])
        if found is None:
            raise _not_stored([f"rule '{rule['name']}'"])
        digest = content_hash(rule_content(found))
        if digest != rule_mark(rule)[0]:
            client.update_rule(marked_rule({**found, "actions": found.get("actions", [])}, digest))


def _with_users_rule_parts(rule: AlertRule, present: Mapping[str, Any]) -> AlertRule:
    return {**with_tags_of(rule, present.get("tags", ())), "actions": present.get("actions", [])}


def _prune(diff: SpaceDiff, client: KibanaClient) -> None:
    surplus = diff.of_state("surplus")
    for change in surplus:
        if change.type == _RULE:
            client.delete_rule(change.id)
        elif change.type != "index-pattern":
            client.delete_object(change.type, change.id)
    for change in surplus:
        if change.type == "index-pattern" and not client.is_referenced(change.type, change.id):
            client.delete_object(change.type, change.id)


def _verify(pack: Pack, client: KibanaClient) -> None:
    """Compare once more. Raise TaskError when the space is still different from the pack."""
    after = compare(pack, client)
    if different := after.of_state("new", "changed", "edited"):
        raise _not_stored(f"{change.type} '{change.title}'" for change in different)


def _require_accepted(problems: list[ImportProblem], pack: Pack) -> None:
    if not problems:
        return
    titles = {item["id"]: title_of(item) for item in pack.objects}
    texts = [f"{each.type} '{titles.get(each.id, each.id)}': {each.reason}" for each in problems]
    conflicts = all(each.reason.startswith(("conflict", "ambiguous")) for each in problems)
    if conflicts:
        hint = "another object has this id, or its tag 'headrace' was removed: --overwrite replaces it"
        raise ConflictError(f"Kibana has these objects: {'; '.join(texts)}", code="kibana.conflict", hint=hint)
    raise TaskError(
        f"Kibana refused {'; '.join(texts)}", code="kibana.import_refused", hint="see `headrace kibana check`"
    )


def _not_stored(what: Iterable[str]) -> TaskError:
    return TaskError(
        f"after the import Kibana does not have what was sent: {', '.join(what)}",
        code="kibana.not_stored",
        hint="see `headrace kibana diff`; if a user edits it now, apply again",
    )


def _content(kind: str, item: Mapping[str, Any]) -> Any:
    return rule_content(item) if kind == _RULE else content(dict(item))


def _mark(kind: str, item: Mapping[str, Any]) -> tuple[str, str]:
    return rule_mark(item) if kind == _RULE else mark_of(dict(item))
