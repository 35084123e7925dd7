"""The requests of the contract, in the order in which they are sent.

``{folder}`` in a body stands for a folder of the recording or the test. Connectors are the file connectors that come
with Kafka, because they need no other system.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
SINK = "org.apache.kafka.connect.file.FileStreamSinkConnector"
INPUT = "input.txt"
"""The file that the sources read; it has three lines."""


class Settled(NamedTuple):
    """The status that is required before a request is sent.

    ``state`` empty means that the connector is gone; ``tasks`` None means that their number does not matter.
    """

    connector: str
    state: str
    tasks: int | None


class Request(NamedTuple):
    """``full`` keeps the definitions of every key in the answer, not only those with errors."""

    method: str
    path: str
    body: str | None = None
    content_type: str = "application/json"
    after: Settled | None = None
    full: bool = False

    @property
    def title(self) -> str:
        return f"{self.method} {self.path}"


def source(name: str, /, **changes: Any) -> dict[str, Any]:
    config = {
        "name": name,
        "connector.class": SOURCE,
        "tasks.max": "1",
        "file": f"{{folder}}/{INPUT}",
        "topic": "lines",
    }
    return _changed(config, changes)


def sink(name: str, /, **changes: Any) -> dict[str, Any]:
    config = {"name": name, "connector.class": SINK, "tasks.max": "1", "file": "{folder}/out.txt", "topics": "lines"}
    return _changed(config, changes)


def _changed(config: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a changed configuration: ``__`` stands for dots of keys, ``...`` removes a key."""
    merged = {**config, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not ...}


def send(method: str, path: str, body: Any = None, **options: Any) -> Request:
    return Request(method, path, None if body is None else json.dumps(body), **options)


def requests() -> list[Request]:
    """Return the requests; their order matters."""
    return [
        *_worker(),
        *_plugins(),
        *_validations(),
        *_unknown_names(),
        *_creation(),
        *_source_life(),
        *_source_offsets(),
        *_sink_life(),
        *_failures(),
        *_methods(),
        *_loggers(),
        *_deletion(),
    ]


def _worker() -> Iterator[Request]:
    yield send("GET", "/")
    yield send("GET", "/health")
    yield send("GET", "/nothing")
    yield send("GET", "/connectors")
    yield send("GET", "/connectors/")
    for query in ("expand=status", "expand=info", "expand=info&expand=status", "expand=other", "expand="):
        yield send("GET", f"/connectors?{query}")


def _plugins() -> Iterator[Request]:
    yield send("GET", "/connector-plugins")
    yield send("GET", "/connector-plugins?connectorsOnly=true")
    yield send("GET", "/connector-plugins/FileStreamSource/config", full=True)
    yield send("GET", "/connector-plugins/FileStreamSinkConnector/config", full=True)
    yield send("GET", f"/connector-plugins/{SOURCE}/config")
    yield send("GET", f"/connector-plugins/{SOURCE}/config?version=9.9.9")
    yield send("GET", f"/connector-plugins/{SOURCE}/config?version=4.3.1")
    yield send("GET", "/connector-plugins/org.apache.kafka.connect.json.JsonConverter/config", full=True)
    yield send("GET", "/connector-plugins/org.apache.kafka.connect.storage.StringConverter/config", full=True)
    yield send("GET", "/connector-plugins/NoSuch/config")
    yield send("GET", "/connector-plugins/FileStreamSource")
    yield send("POST", "/connector-plugins", {})
    yield send("GET", "/connector-plugins/FileStreamSource/config/validate")
    yield send("POST", "/connector-plugins/FileStreamSource/config/validate", source("v"))


def _validations() -> Iterator[Request]:
    def validate(config: Any, plugin: str = "FileStreamSource", *, full: bool = False) -> Request:
        return send("PUT", f"/connector-plugins/{plugin}/config/validate", config, full=full)

    yield validate(source("v"), full=True)
    yield validate(sink("v"), "FileStreamSink", full=True)
    yield validate(source("v"), "FileStreamSourceConnector")
    yield validate(source("v"), SOURCE)
    yield validate(source("v", connector__class="FileStreamSource"), SOURCE)
    yield validate(source("v"), "FileStreamSink")
    yield validate(source("v", connector__class="NoSuch"), "NoSuch")
    yield validate(source("v", connector__class=...))
    yield validate({})
    yield validate(source("v", topic=...))
    yield validate(source("v", topic=None))
    yield validate(source("v", file=None))
    yield validate(source("v", topic=""))
    yield validate(source("v", name=...))
    yield validate(source("v", name=""))
    yield validate(source("v", batch__size="0"))
    yield validate(source("v", batch__size="many"))
    yield validate(source("v", batch__size=1.5))
    yield validate(source("v", batch__size=" 7 "))
    for value in ("0", "-1", "x", "1.0", 2, True, "2147483648", ""):
        yield validate(source("v", tasks__max=value))
    for name, value in (
        ("errors__tolerance", "some"),
        ("errors__tolerance", "ALL"),
        ("errors__log__enable", "maybe"),
        ("errors__log__enable", "TRUE"),
        ("errors__retry__timeout", "x"),
        ("errors__retry__delay__max__ms", "-1"),
        ("config__action__reload", "sometimes"),
        ("exactly__once__support", "requested"),
        ("exactly__once__support", "required"),
        ("exactly__once__support", "sometimes"),
        ("transaction__boundary", "poll"),
        ("transaction__boundary", "row"),
        ("offsets__storage__topic", ""),
        ("topic__creation__groups", ""),
        ("topic__creation__default__partitions", "0"),
        ("topic__creation__default__replication__factor", "-1"),
        ("key__converter", "NoSuch"),
        ("key__converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value__converter", "org.apache.kafka.connect.json.JsonConverter"),
        ("value__converter__schemas__enable", "false"),
        ("header__converter", "org.apache.kafka.connect.storage.SimpleHeaderConverter"),
        ("header__converter", "NoSuch"),
        ("transforms", "route"),
        ("transforms", ""),
        ("predicates", ""),
        ("predicates", "p"),
        ("producer__override__linger__ms", "5"),
        ("my__own__key", "a"),
        ("custom__owner", "team-a"),
        ("connector__plugin__version", "4.3.1"),
        ("connector__plugin__version", "9.9.9"),
        ("tasks__max__enforce", "false"),
    ):
        yield validate(source("v", **{name: value}))
    for changes in (
        {"topics": ...},
        {"topics": ""},
        {"topics": "a,b"},
        {"topics": "lines", "topics__regex": "l.*"},
        {"topics": ..., "topics__regex": "l.*"},
        {"topics": ..., "topics__regex": "("},
        {"topics__regex": "", "errors__deadletterqueue__topic__name": ""},
        {"errors__deadletterqueue__topic__name": "lines"},
        {"errors__deadletterqueue__topic__name": "letters"},
        {"topics": ..., "topics__regex": "l.*", "errors__deadletterqueue__topic__name": "letters"},
        {"errors__deadletterqueue__context__headers__enable": "x"},
        {"errors__deadletterqueue__topic__replication__factor": "3"},
        {"consumer__override__max__poll__records": "10"},
    ):
        yield validate(sink("v", **changes), "FileStreamSink")
    yield Request("PUT", "/connector-plugins/FileStreamSource/config/validate", "{")
    yield Request("PUT", "/connector-plugins/FileStreamSource/config/validate", "[]")
    yield Request("PUT", "/connector-plugins/FileStreamSource/config/validate", "{}", "text/plain")


def _unknown_names() -> Iterator[Request]:
    one = "/connectors/nosuch"
    for path in ("", "/config", "/status", "/tasks", "/topics", "/offsets", "/tasks/0/status"):
        yield send("GET", one + path)
    yield send("GET", f"{one}/tasks-config")
    for path in ("/pause", "/resume", "/stop", "/topics/reset"):
        yield send("PUT", one + path)
    yield send("POST", f"{one}/restart")
    yield send("POST", f"{one}/restart?includeTasks=true&onlyFailed=true")
    yield send("POST", f"{one}/tasks/0/restart")
    yield send("PATCH", f"{one}/config", {"topic": "other"})
    yield send("PATCH", f"{one}/offsets", {"offsets": [{"partition": {"filename": "a"}, "offset": {"position": 1}}]})
    yield send("DELETE", f"{one}/offsets")
    yield send("DELETE", one)
    yield send("PUT", f"{one}/nothing")


def _creation() -> Iterator[Request]:
    def create(body: Any) -> Request:
        return send("POST", "/connectors", body)

    yield create({})
    yield create([])
    yield create({"name": "bad"})
    yield create({"name": "bad", "config": None})
    yield create({"name": "bad", "config": {}})
    yield create({"name": "bad", "config": []})
    yield create({"name": "bad", "config": {"topic": ["a"]}})
    yield create({"name": "bad", "config": {"topic": {"a": "b"}}})
    yield create({"config": source("bad")})
    yield create({"config": source("bad", name=...)})
    yield create({"name": "", "config": source("bad", name=...)})
    yield create({"name": "bad", "config": source("other")})
    yield create({"name": "bad", "config": source("bad"), "more": 1})
    yield create({"name": "bad", "config": source("bad"), "initial_state": "SLEEPING"})
    yield create({"name": "bad", "config": source("bad"), "initial_state": "UNASSIGNED"})
    yield create({"name": "bad", "config": source("bad", topic=...)})
    yield create({"name": "bad", "config": source("bad", connector__class=...)})
    yield create({"name": "bad", "config": source("bad", connector__class="NoSuch")})
    yield create({"name": "bad", "config": source("bad", tasks__max="0")})
    yield create({"name": "bad", "config": source("bad", batch__size=1e3)})
    yield create({"name": "bad", "config": source("bad", topic=None)})
    yield create({"name": "bad", "config": source("bad", transforms="route")})
    yield create({"name": "bad\u0007", "config": source("bad\u0007")})
    yield create({"name": "bad", "config": sink("bad", topics=...)})
    yield create({"name": "bad", "config": sink("bad", topics__regex="l.*")})
    yield Request("POST", "/connectors", "not JSON")
    yield Request("POST", "/connectors", "")
    yield Request("POST", "/connectors", json.dumps({"name": "bad", "config": source("bad")}), "text/plain")
    yield Request("POST", "/connectors")
    yield send("PUT", "/connectors/bad/config", {})
    yield send("PUT", "/connectors/bad/config", source("other"))
    yield send("PUT", "/connectors/bad/config", source("bad", topic=...))
    yield send("PUT", "/connectors/bad/config", {"topic": ["a"]})
    yield Request("PUT", "/connectors/bad/config", "null")
    yield Request("PUT", "/connectors/bad/config", "{")
    yield send("GET", "/connectors")


def _source_life() -> Iterator[Request]:
    one = "/connectors/src"
    running, paused, stopped = (Settled("src", state, count) for state, count in _STATES)
    yield send("POST", "/connectors", {"name": "src", "config": source("src", name=...)})
    yield send("GET", f"{one}/status", after=running)
    yield send("POST", "/connectors", {"name": "src", "config": source("src")})
    for path in ("", "/config", "/status", "/tasks", "/tasks/0/status", "/tasks/7/status", "/tasks/x/status"):
        yield send("GET", one + path)
    for query in ("expand=status", "expand=info", "expand=info&expand=status", "expand=other"):
        yield send("GET", f"/connectors?{query}")
    yield send("GET", "/connectors")
    yield send("PUT", f"{one}/config", source("src", batch__size=100))
    yield send("GET", one, after=running)
    yield send("PUT", f"{one}/config", source("src"))
    yield send("GET", f"{one}/config", after=running)
    yield send("PUT", f"{one}/config", source("src", batch__size="many"))
    yield send("PUT", f"{one}/config", source("other"))
    yield send("PATCH", f"{one}/config", {"batch.size": "50"}, after=running)
    yield send("PATCH", f"{one}/config", {"batch.size": None}, after=running)
    yield send("PATCH", f"{one}/config", {"topic": None})
    yield send("PATCH", f"{one}/config", {"batch.size": "many"})
    yield send("PATCH", f"{one}/config", {"name": "other"})
    yield send("PATCH", f"{one}/config", {})
    yield Request("PATCH", f"{one}/config", "[]")
    yield send("GET", f"{one}/config", after=running)
    yield send("PUT", f"{one}/pause")
    yield send("GET", f"{one}/status", after=paused)
    yield send("PUT", f"{one}/pause")
    yield send("POST", f"{one}/tasks/0/restart")
    yield send("PUT", f"{one}/resume", after=paused)
    yield send("GET", f"{one}/status", after=running)
    yield send("PUT", f"{one}/resume")
    yield send("POST", f"{one}/restart", after=running)
    yield send("POST", f"{one}/restart?includeTasks=true", after=running)
    yield send("POST", f"{one}/restart?onlyFailed=true", after=running)
    yield send("POST", f"{one}/restart?includeTasks=true&onlyFailed=true", after=running)
    yield send("POST", f"{one}/restart?includeTasks=maybe", after=running)
    yield send("POST", f"{one}/tasks/0/restart", after=running)
    yield send("POST", f"{one}/tasks/7/restart", after=running)
    yield send("POST", f"{one}/tasks/x/restart")
    yield send("PATCH", f"{one}/offsets", _positions(0), after=running)
    yield send("DELETE", f"{one}/offsets")
    yield send("GET", f"{one}/topics")
    yield send("PUT", f"{one}/stop")
    yield send("GET", f"{one}/status", after=stopped)
    yield send("PUT", f"{one}/stop")
    yield send("GET", one)
    yield send("GET", f"{one}/tasks")
    yield send("GET", f"{one}/tasks/0/status")
    yield send("POST", f"{one}/restart")
    yield send("POST", f"{one}/restart?includeTasks=true", after=stopped)
    yield send("GET", f"{one}/topics", after=stopped)
    yield send("PUT", f"{one}/topics/reset")
    yield send("GET", f"{one}/topics")


_STATES = (("RUNNING", 1), ("PAUSED", 1), ("STOPPED", 0))


def _positions(position: Any, **partition: Any) -> dict[str, Any]:
    known = partition or {"filename": f"{{folder}}/{INPUT}"}
    return {"offsets": [{"partition": known, "offset": {"position": position}}]}


def _source_offsets() -> Iterator[Request]:
    """Return the offsets of the source that was stopped last."""
    offsets = "/connectors/src/offsets"
    yield send("GET", offsets)
    yield send("PATCH", offsets, _positions(2))
    yield send("GET", offsets)
    yield send("PATCH", offsets, _positions(-1))
    yield send("PATCH", offsets, _positions("two"))
    yield send("PATCH", offsets, _positions(2, x="y"))
    yield send("PATCH", offsets, _positions(2, filename=7))
    yield send("GET", offsets)
    yield send("PATCH", offsets, {})
    yield send("PATCH", offsets, {"offsets": None})
    yield send("PATCH", offsets, {"offsets": []})
    yield send("PATCH", offsets, {"offsets": [{}]})
    yield send("PATCH", offsets, {"offsets": {}})
    yield send("PATCH", offsets, {"offsets": ["a"]})
    yield send("PATCH", offsets, {"other": []})
    yield Request("PATCH", offsets, "{")
    yield Request("PATCH", offsets, "{}", "text/plain")
    yield send("PATCH", offsets, {"offsets": [{"partition": {"filename": f"{{folder}}/{INPUT}"}, "offset": None}]})
    yield send("GET", offsets)
    yield send("DELETE", offsets)
    yield send("GET", offsets)
    yield send("POST", "/connectors/src/offsets", {})


def _sink_life() -> Iterator[Request]:
    one = "/connectors/snk"
    created = Settled("snk", "PAUSED", None)  # with or without tasks
    running, _, stopped = (Settled("snk", state, count) for state, count in _STATES)
    config = sink("snk")
    yield send("POST", "/connectors", {"name": "snk", "config": config, "initial_state": "PAUSED"})
    yield send("GET", f"{one}/status", after=created)
    yield send("PUT", f"{one}/resume", after=created)
    yield send("GET", f"{one}/status", after=running)
    yield send("GET", one)
    yield send("PUT", f"{one}/stop")
    yield send("GET", f"{one}/status", after=stopped)
    partition = {"kafka_topic": "lines", "kafka_partition": 0}
    for item in (
        {"partition": partition, "offset": {"kafka_offset": 1}},
        {"partition": partition, "offset": {"kafka_offset": "1"}},
        {"partition": partition, "offset": {"kafka_offset": -1}},
        {"partition": partition, "offset": {"kafka_offset": "x"}},
        {"partition": partition, "offset": {"position": 1}},
        {"partition": {"kafka_topic": "lines"}, "offset": {"kafka_offset": 1}},
        {"partition": {"kafka_partition": 0}, "offset": {"kafka_offset": 1}},
        {"partition": {"kafka_topic": "lines", "kafka_partition": "x"}, "offset": {"kafka_offset": 1}},
        {"partition": {"x": "y"}, "offset": {"kafka_offset": 1}},
        {"partition": partition, "offset": None},
    ):
        yield send("PATCH", f"{one}/offsets", {"offsets": [item]})
        yield send("GET", f"{one}/offsets")
    yield send("DELETE", f"{one}/offsets")
    yield send("PUT", f"{one}/config", sink("snk", topics=None))
    yield send("PATCH", f"{one}/config", {"topics": None, "topics.regex": "lin.*"})
    yield send("GET", f"{one}/status", after=stopped)
    yield send("GET", f"{one}/topics")


def _failures() -> Iterator[Request]:
    """A sink whose file cannot be opened: its task fails."""
    one, failed = "/connectors/failing", Settled("failing", "FAILED", 1)
    config = sink("failing", file="{folder}/no/such/folder/out.txt")
    yield send("PUT", f"{one}/config", config)
    yield send("GET", f"{one}/status", after=failed)
    yield send("GET", f"{one}/tasks/0/status", after=failed)
    yield send("POST", f"{one}/restart?includeTasks=true&onlyFailed=true", after=failed)
    yield send("GET", f"{one}/status", after=failed)
    yield send("POST", f"{one}/tasks/0/restart", after=failed)
    yield send("PUT", f"{one}/pause", after=failed)
    yield send("PUT", f"{one}/resume")
    yield send("DELETE", one)


def _methods() -> Iterator[Request]:
    paths = (
        "/", "/health", "/connectors", "/connector-plugins", "/admin/loggers", "/admin/loggers/root",
        "/connectors/src", "/connectors/src/config", "/connectors/src/status", "/connectors/src/restart",
        "/connectors/src/pause", "/connectors/src/offsets", "/connectors/src/tasks", "/connectors/src/topics",
        "/connector-plugins/FileStreamSource/config",
    )  # fmt: skip
    for path in paths:
        yield send("OPTIONS", path)
    for method, path in (
        ("HEAD", "/"),
        ("HEAD", "/connectors"),
        ("HEAD", "/connectors/src"),
        ("HEAD", "/connectors/nosuch"),
        ("DELETE", "/"),
        ("DELETE", "/connectors"),
        ("PUT", "/connectors"),
        ("POST", "/connectors/src"),
        ("PUT", "/connectors/src"),
        ("DELETE", "/connectors/src/config"),
        ("POST", "/connectors/src/config"),
        ("PUT", "/connectors/src/status"),
        ("GET", "/connectors/src/restart"),
        ("PUT", "/connectors/src/restart"),
        ("POST", "/connectors/src/pause"),
        ("GET", "/connectors/src/topics/reset"),
        ("POST", "/connectors/src/topics/reset"),
        ("GET", "/connectors/src/tasks/0"),
        ("GET", "/connectors/src/tasks/0/restart"),
    ):
        yield send(method, path)


def _loggers() -> Iterator[Request]:
    loggers = "/admin/loggers"
    yield send("GET", f"{loggers}/root")
    yield send("GET", f"{loggers}/no.such.logger")
    yield send("PUT", f"{loggers}/contract.a", {"level": "DEBUG"})
    yield send("GET", f"{loggers}/contract.a")
    yield send("PUT", f"{loggers}/contract.a", {"level": "warn"})
    yield send("GET", f"{loggers}/contract.a")
    yield send("PUT", f"{loggers}/contract.a?scope=cluster", {"level": "ERROR"})
    yield send("PUT", f"{loggers}/contract.a?scope=worker", {"level": "ERROR"})
    yield send("PUT", f"{loggers}/contract.a?scope=other", {"level": "ERROR"})
    yield send("PUT", f"{loggers}/contract.a", {"level": "LOUD"})
    yield send("PUT", f"{loggers}/contract.a", {"level": None})
    yield send("PUT", f"{loggers}/contract.a", {})
    yield Request("PUT", f"{loggers}/contract.a", "{")
    yield Request("PUT", f"{loggers}/contract.a", "[]")
    yield send("POST", loggers, {})
    yield send("DELETE", f"{loggers}/contract.a")


def _deletion() -> Iterator[Request]:
    yield send("DELETE", "/connectors/src")
    yield send("GET", "/connectors/src/status", after=Settled("src", "", 0))
    yield send("GET", "/connectors/src")
    yield send("DELETE", "/connectors/src")
    named = "a%20b"
    yield send("PUT", f"/connectors/{named}/config", source("a b"))
    yield send("GET", f"/connectors/{named}/status", after=Settled("a b", "RUNNING", 1))
    yield send("DELETE", f"/connectors/{named}")
    yield send("PUT", "/connectors/q/config", source("q", connector__class="FileStreamSource", name=...))
    yield send("GET", "/connectors/q", after=Settled("q", "RUNNING", 1))
    yield send("DELETE", "/connectors/q")
    yield send("DELETE", "/connectors/snk")
