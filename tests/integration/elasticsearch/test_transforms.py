"""Records of an in-memory topic through transforms into a real Elasticsearch."""

from __future__ import annotations

from typing import Any

UNWRAP = {
    "transforms": "unwrap,key,mask,day",
    "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
    "transforms.unwrap.add.fields": "op",
    "transforms.key.type": "org.apache.kafka.connect.transforms.ExtractField$Key",
    "transforms.key.field": "id",
    "transforms.mask.type": "org.apache.kafka.connect.transforms.MaskField$Value",
    "transforms.mask.fields": "card",
    "transforms.mask.predicate": "tombstone",
    "transforms.mask.negate": "true",
    "transforms.day.type": "Cast$Value",
    "transforms.day.spec": "price:int32",
    "transforms.day.predicate": "tombstone",
    "transforms.day.negate": "true",
    "predicates": "tombstone",
    "predicates.tombstone.type": "org.apache.kafka.connect.transforms.predicates.RecordIsTombstone",
    "behavior.on.null.values": "delete",
}


def event(op: str, before: Any, after: Any) -> dict[str, Any]:
    return {"op": op, "before": before, "after": after, "source": {"table": "orders"}, "ts_ms": 1}


def test_change_events_become_documents_and_what_a_transform_refuses_a_dead_letter(flow: Any) -> None:
    rows: list[dict[str, Any]] = [{"id": number, "card": "4111", "price": f"{number}"} for number in range(40)]
    events: list[Any] = [event("c", None, row) for row in rows]
    keys: list[Any] = [{"id": row["id"]} for row in rows]
    events += [event("d", rows[3], None), None, event("u", rows[4], {**rows[4], "price": "much"})]
    keys += [{"id": 3}, {"id": 3}, {"id": 5}]
    flow.start(UNWRAP)
    flow.send(events, keys)
    flow.settle()

    flow.ask("POST", f"{flow.name}/_refresh")
    hits = flow.ask("POST", f"{flow.name}/_search", {"size": 100})["hits"]["hits"]
    expected = {str(row["id"]): {**row, "card": "", "price": int(row["price"]), "__op": "c"} for row in rows}
    del expected["3"]
    assert {hit["_id"]: hit["_source"] for hit in hits} == expected
    (letter,) = flow.dead()
    assert letter["stage"] == "TRANSFORMATION"
    assert "Cast: price: the text is not a whole number" in letter["exception.message"]
