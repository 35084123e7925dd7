"""The steps that the status advises are executed on real engines: afterwards all documents exist."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import kafka as kafka_python

from headrace.broker.interfaces import NewTopic
from headrace.testing.waiting import eventually
from tests.engines.http import HTTP

Search = Any


def reasons(index: Search) -> str:
    return str(index.worker.get(f"/connectors/{index.name}/status"))


def test_operations_10_reindex_keeps_the_documents_that_a_recreated_topic_lacks(
    filled: Callable[..., Search], kafka: Any
) -> None:
    index = filled()
    digits = '"n":1234567890123456789,"exact":0.1234567890123456789'
    headers, place = {"content-type": "application/json"}, f"{index.url}/{index.name}/_doc/digits"
    HTTP.put(place, content=f"{{{digits}}}", headers=headers).raise_for_status()
    HTTP.post(f"{index.url}/{index.name}/_refresh")
    right = index.documents()
    assert index.worker.stop() == 0
    admin = kafka_python.KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    admin.delete_topics([index.name])
    eventually(lambda: index.name not in admin.list_topics(), index.box.timeout)
    admin.close()
    ours = index.kafka_clients.admin({})
    ours.create_topics([NewTopic(index.name, 2)])
    ours.close()
    index.renew_producer()
    index.produce(("k1", {"n": -1}))
    index.worker.start()
    eventually(lambda: "`headrace reindex NAME FILE…`" in reasons(index), index.box.timeout)

    refused = index.reindex()
    assert refused.returncode == 2, refused.stderr
    assert "reindex.would_lose" in refused.stderr
    assert "--copy-lost" in refused.stderr
    done = index.reindex("--copy-lost")
    assert done.returncode == 0, done.stderr + done.stdout
    assert index.documents() == {**right, "k1": {"n": -1}}
    assert index.states() == {f"{index.name}-000001": "old", f"{index.name}-000002": "live"}

    assert digits in HTTP.get(f"{index.url}/{index.name}/_source/digits").text
    # One partition is still empty: its first record has offset 0 and must replace a copy.
    keys = [f"stays{number}" for number in range(40)]
    index.produce(*((key, {"n": -2}) for key in keys))
    eventually(lambda: all(index.documents()[key] == {"n": -2} for key in keys), index.box.timeout)
