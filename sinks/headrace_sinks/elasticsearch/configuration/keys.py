"""All keys of the Elasticsearch sink, named as in Kafka Connect; defaults that differ say so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal

from headrace import LOWER, UPPER, CommaList, DataError, Duration, Finding, KeyDefinition, Secret, Size, key, prefix_key
from headrace_sinks.elasticsearch.configuration.index_keys import IndexKeys
from headrace_sinks.elasticsearch.configuration.target_keys import TargetKeys
from headrace_sinks.elasticsearch.configuration.url_rules import url_problems
from headrace_sinks.elasticsearch.naming.name_rules import index_name

CONNECTION, BATCHING, CONVERSION, ERRORS, SECURITY = "Connection", "Batching", "Data Conversion", "Errors", "Security"
_NULLS = "behavior.on.null.values"
_HOST = re.compile(r"[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]")
_NOT_BUILT = "config.not_supported"


class ElasticsearchSinkConfig(TargetKeys, IndexKeys):
    """Configuration of the Elasticsearch sink."""

    connection_url: CommaList = key(
        "connection.url",
        doc="Elasticsearch nodes, separated by commas: `http://host:9200`. The default port is 80 or 443. Requests are "
        "distributed over all nodes; a node that does not respond is not used for some time.",
        group=CONNECTION,
        importance="high",
        min_length=1,
    )
    connection_username: str | None = key(
        "connection.username", default=None, doc="User name. Requires `connection.password`.", group=CONNECTION
    )
    connection_password: Secret | None = key(
        "connection.password", default=None, doc="Password of `connection.username`.", group=CONNECTION
    )
    connection_api_key: Secret | None = key(
        "connection.api.key",
        default=None,
        doc="API key as Elasticsearch returns it in `encoded`, instead of user name and password (not in Kafka "
        "Connect).",
        group=CONNECTION,
    )
    connection_timeout: Duration = key(
        "connection.timeout.ms",
        default=5_000,
        ge=1,
        doc="Timeout for connecting (Kafka Connect's default: 1000).",
        group=CONNECTION,
        importance="low",
    )
    read_timeout: Duration = key(
        "read.timeout.ms",
        default=30_000,
        ge=1,
        doc="Timeout for the response to a request. A busy cluster needs many seconds for a large request (Kafka "
        "Connect's default: 3000).",
        group=CONNECTION,
        importance="low",
    )
    connection_compression: bool = key(
        "connection.compression",
        default=False,
        doc="Compress requests (gzip): less network, more CPU.",
        group=CONNECTION,
        importance="low",
    )

    proxy_host: str = key(
        "proxy.host",
        default="",
        doc="Host of an HTTP proxy for Elasticsearch. Empty: none.",
        group=CONNECTION,
        importance="low",
    )
    proxy_port: int = key(
        "proxy.port", default=8080, ge=1, le=65_535, doc="Port of `proxy.host`.", group=CONNECTION, importance="low"
    )
    proxy_username: str | None = key(
        "proxy.username", default=None, doc="User name for the proxy.", group=CONNECTION, importance="low"
    )
    proxy_password: Secret | None = key(
        "proxy.password", default=None, doc="Password of `proxy.username`.", group=CONNECTION, importance="low"
    )
    compatibility: Annotated[Literal["none", "7", "8", "9"], LOWER] = key(
        "elasticsearch.compatibility",
        default="none",
        doc="`8` or `9`: use the compatibility mode of Elasticsearch for that major version. `none`: plain JSON, which "
        "7.x, 8.x and 9.x accept.",
        group=CONNECTION,
        importance="low",
    )

    batch_size: int = key(
        "batch.size",
        default=2_000,
        ge=1,
        le=1_000_000,
        doc="Maximum number of records in a bulk request.",
        group=BATCHING,
    )
    bulk_size_bytes: Size = key(
        "bulk.size.bytes",
        default=5 << 20,
        ge=-1,
        le=2**31 - 1,
        doc="Maximum size of a bulk request in bytes. -1: no limit. A larger document is sent in a request of its own.",
        group=BATCHING,
    )
    max_in_flight_requests: int = key(
        "max.in.flight.requests",
        default=5,
        ge=1,
        le=1000,
        doc="Maximum number of concurrent bulk requests of a task. Writes to one document keep their order.",
        group=BATCHING,
    )
    linger: Duration = key(
        "linger.ms",
        default=0,
        ge=0,
        le=604_800_000,
        doc="How long to buffer records in order to send fewer and larger requests. They are sent when there are "
        "`batch.size` records or `bulk.size.bytes`, or after this time. 0: they are sent as soon as they are read "
        "(Kafka Connect's default: 1). This is useful only for topics with few records per second; a backlog is read "
        "in large batches in any case.",
        group=BATCHING,
        importance="low",
    )
    flush_synchronously: bool = key(
        "flush.synchronously",
        default=False,
        doc="true: the next records are read after the documents of the previous records are written. false: they are "
        "read while these are written. In both cases offsets are committed after the documents are written, and "
        "transforms may change topics.",
        group=BATCHING,
        importance="low",
    )
    max_retries: int = key(
        "max.retries",
        default=5,
        ge=0,
        doc="Number of retries of items that an overloaded cluster rejected, with exponential backoff (at most 10 s in "
        "total). After that the status shows the reason and the task retries without a limit: records are never "
        "dropped because a cluster is unavailable (Kafka Connect: the task fails).",
        group=BATCHING,
        importance="low",
    )
    retry_backoff: Duration = key(
        "retry.backoff.ms",
        default=100,
        ge=0,
        le=86_400_000,
        doc="Wait before the first retry; it doubles with each retry.",
        group=BATCHING,
        importance="low",
    )

    key_ignore: bool = key(
        "key.ignore",
        default=False,
        doc="false: the record key is the document id, so a newer record replaces the older document and a repeated "
        "record is written once. The Kafka offset is the external version of the document. The id of a key with "
        "one field is the value of that field as text; the id of a key with several fields is their values, in the "
        "order of the key, joined by `+` (`+` and `\\` in a value are escaped by `\\`). Note: the offsets of a "
        "topic that is deleted and created again begin at 0, so Elasticsearch considers its documents newer and "
        "keeps them (the status shows this): run `headrace reindex`, delete the index, too, or use "
        "`external.version.header`. The same applies to keys that move to another partition. true: "
        "`topic+partition+offset` is the id, and every record has its own document.",
        group=CONVERSION,
        importance="high",
    )
    topic_key_ignore: CommaList = key(
        "topic.key.ignore", default="", doc="Topics for which `key.ignore` is true.", group=CONVERSION, importance="low"
    )
    schema_ignore: bool = key(
        "schema.ignore",
        default=False,
        doc="true: Elasticsearch determines the mapping of a new index by templates and dynamic mapping. false: the "
        "mapping of a new index is derived from the schema of its first record. For values without a schema, "
        "Elasticsearch determines the mapping (in Kafka Connect they fail the task).",
        group=CONVERSION,
    )
    topic_schema_ignore: CommaList = key(
        "topic.schema.ignore",
        default="",
        doc="Topics for which `schema.ignore` is true.",
        group=CONVERSION,
        importance="low",
    )
    compact_map_entries: bool = key(
        "compact.map.entries",
        default=True,
        doc='A map with text keys is written as an object `{"k": 1}`; false: as a list `[{"key": "k", "value": 1}]`. '
        "Maps with other keys are always lists.",
        group=CONVERSION,
        importance="low",
    )
    write_method: Annotated[Literal["insert", "upsert", "update"], LOWER] = key(
        "write.method",
        default="insert",
        doc="`insert`: a record replaces the whole document. `upsert`: its fields are merged into the document, which "
        "is created if it is missing. Merges have no external version: records that are repeated after a crash are "
        "merged again, in order, so a document has older values until its newer records are repeated, too. Merges "
        "wait for a request whose response was lost (privilege `monitor`). `update`: as `upsert`, but a record "
        "without a document is refused.",
        group=CONVERSION,
        importance="low",
    )
    external_version_header: str = key(
        "external.version.header",
        default="",
        doc="Header with the version of the document, an integer as text. Default: the Kafka offset is the version.",
        group=CONVERSION,
        importance="low",
    )
    use_autogenerated_ids: bool = key(
        "use.autogenerated.ids",
        default=False,
        doc="Elasticsearch generates the ids (`write.method: insert`). A repeated record creates a second document.",
        group=CONVERSION,
    )
    external_resource_usage: Annotated[
        Literal["DISABLED", "INDEX", "ALIAS_INDEX", "DATASTREAM", "ALIAS_DATASTREAM"], UPPER
    ] = key(
        "external.resource.usage",
        default="DISABLED",
        doc="Write to the indices, aliases or data streams named in `topic.to.external.resource.mapping`, which must "
        "exist.",
        group=CONVERSION,
    )
    resource_mapping: CommaList = key(
        "topic.to.external.resource.mapping",
        default="",
        doc="`topic:index` pairs. Without it the index is the topic's name in lower case.",
        group=CONVERSION,
    )

    on_null_values: Annotated[Literal["ignore", "delete", "fail"], LOWER] = key(
        "behavior.on.null.values",
        default="fail",
        doc="Effect of a record without a value (a tombstone). `delete`: the document is deleted. `ignore`: none. "
        "`fail`: the record is refused, and `errors.tolerance` applies.",
        group=ERRORS,
    )
    on_malformed_documents: Annotated[Literal["ignore", "warn", "fail"], LOWER] = key(
        "behavior.on.malformed.documents",
        default="fail",
        doc="What to do with a document that Elasticsearch refuses, for example because of its mapping. With "
        "`errors.tolerance: all` and a dead letter queue it is always sent there (recommended: nothing is lost). "
        "Otherwise `fail` fails the task; `ignore` and `warn` drop the record, as in Kafka Connect.",
        group=ERRORS,
    )
    drop_invalid_message: bool = key(
        "drop.invalid.message",
        default=False,
        doc="Drop records that cannot be converted to a document (no usable key, not an object) instead of refusing "
        "them. With `errors.tolerance: all` they are sent to the dead letter queue in any case.",
        group=ERRORS,
        importance="low",
    )
    errors_tolerance: Annotated[Literal["none", "all"], LOWER] = key(
        "errors.tolerance",
        default="none",
        doc="`none`: a bad record fails the task. `all`: it is skipped. The dead letter queue gets it in both cases.",
        group="Error Handling",
    )

    security_protocol: Annotated[Literal["PLAINTEXT", "SSL"], UPPER] = key(
        "elastic.security.protocol",
        default="PLAINTEXT",
        doc="`SSL` requires https URLs. An https URL by itself is sufficient to use TLS.",
        group=SECURITY,
    )
    ca_file: str | None = key(
        "elastic.https.ssl.truststore.location",
        default=None,
        doc="File with the certificates (PEM) of the trusted authorities. Default: the authorities of the system.",
        group=SECURITY,
        file=True,
    )
    ca_file_type: Annotated[Literal["PEM"], UPPER] = key(
        "elastic.https.ssl.truststore.type",
        default="PEM",
        doc="Only PEM. To convert a Java store: `keytool -exportcert -rfc -keystore store.jks -alias ca > ca.pem`.",
        group=SECURITY,
        importance="low",
    )
    host_name_check: Annotated[Literal["https", ""], LOWER] = key(
        "elastic.https.ssl.endpoint.identification.algorithm",
        default="https",
        doc="`https`: the certificate must contain the host name. Empty: any trusted certificate is accepted.",
        group=SECURITY,
        importance="low",
    )
    trust_all_certificates: bool = key(
        "connection.trust.all.certificates",
        default=False,
        doc="Do not check certificates. For tests only: anyone on the network path can read and change all data.",
        group=SECURITY,
        importance="low",
    )
    keystore: str | None = key(
        "elastic.https.ssl.keystore.location",
        default=None,
        doc="PEM file with the client's certificate and its private key, for clusters that require one. To convert a "
        "Java store: `keytool -importkeystore … -deststoretype pkcs12`, then `openssl pkcs12 -in … -out client.pem`.",
        group=SECURITY,
        file=True,
    )
    key_password: Secret | None = key(
        "elastic.https.ssl.key.password",
        default=None,
        doc="Password of the private key in `elastic.https.ssl.keystore.location`.",
        group=SECURITY,
    )
    other_https: dict[str, str] = prefix_key("elastic.https.", doc="Other keys are not supported.", group=SECURITY)
    kerberos: dict[str, str] = prefix_key("kerberos.", doc="Kerberos is not supported yet.", group=SECURITY)

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "flush.timeout.ms": "only `linger.ms` delays records; `read.timeout.ms` limits each request",
        "max.buffered.records": "at most three puts and the lingering records are held",
        "max.connection.idle.time.ms": "a closed connection is replaced",
        "max.external.resource.mappings": "there is no limit",
        "elastic.https.ssl.truststore.password": "PEM files need none",
        "elastic.https.ssl.keystore.password": "PEM files need none; the key's is `elastic.https.ssl.key.password`",
        "elastic.https.ssl.enabled.protocols": "TLS 1.2 and 1.3 are used",
        "type.name": "Elasticsearch has no mapping types any more",
        "auto.create.indices.at.start": "an index is created with its first record",
        "topic.index.map": "removed from Kafka Connect; use `topic.to.external.resource.mapping` or `index.name`",
        "log.sensitive.data": "contents of records are never logged",
    }

    @classmethod
    def definitions(cls) -> tuple[KeyDefinition, ...]:
        """Return the definitions in order: own keys first, inherited keys last."""
        inherited = TargetKeys.model_fields.keys() | IndexKeys.model_fields.keys()
        return tuple(sorted(super().definitions(), key=lambda item: item.field in inherited))

    def problems(self) -> Iterable[Finding]:
        yield from url_problems(self.connection_url, demand_https=self.security_protocol == "SSL")
        yield from self._credentials()
        yield from self._conflicts()
        yield from self._resources()
        yield from self._lost_records()
        yield from self._not_built()
        yield from self.target_problems()
        yield from self.index_problems(streams=self.streams(), external=self.external_resource_usage != "DISABLED")

    def resources(self) -> dict[str, str]:
        """Return the mapping of topics to existing indices or aliases."""
        pairs = (pair.rpartition(":") for pair in self.resource_mapping)
        return {topic.strip(): resource.strip() for topic, _, resource in pairs}

    def ignores_key(self, topic: str) -> bool:
        """Return whether document ids of the topic are made from partition and offset."""
        return self.key_ignore or topic in self.topic_key_ignore

    def ignores_schema(self, topic: str) -> bool:
        """Return whether Elasticsearch chooses the mapping."""
        return self.schema_ignore or topic in self.topic_schema_ignore

    def merges(self) -> bool:
        """Return whether records are merged into documents, so that their order matters."""
        return self.write_method != "insert"

    def streams(self) -> bool:
        """Return whether records go to data streams, which accept new documents only."""
        return self.data_stream_type != "NONE" or "DATASTREAM" in self.external_resource_usage

    def _credentials(self) -> Iterator[Finding]:
        if (self.connection_username is None) != (self.connection_password is None):
            given, missing = "connection.username", "connection.password"
            if self.connection_username is None:
                given, missing = missing, given
            yield Finding(
                "config.conflict", f"'{given}' is set and '{missing}' is not", missing, f"set '{missing}' too"
            )
        if (self.proxy_username is None) != (self.proxy_password is None):
            missing = "proxy.password" if self.proxy_password is None else "proxy.username"
            yield Finding("config.conflict", "user name and password of the proxy belong together", missing, "set both")
        if self.proxy_host and not _HOST.fullmatch(self.proxy_host):
            # Not shown: there may be a password in it.
            text = "Invalid value for configuration proxy.host: it is no name or address of a host"
            hint = "only the name; the port is 'proxy.port', credentials are 'proxy.username' and 'proxy.password'"
            yield Finding("config.invalid_value", text, "proxy.host", hint)
        if self.proxy_username is not None and not self.proxy_host:
            text = "'proxy.username' is set and 'proxy.host' is not"
            yield Finding("config.conflict", text, "proxy.host", "set 'proxy.host', or remove the user name")
        if self.key_password is not None and self.keystore is None:
            name = "elastic.https.ssl.keystore.location"
            yield Finding("config.conflict", f"a key's password is set and '{name}' is not", name, "set it too")
        if self.connection_api_key is not None and self.connection_username is not None:
            text = "both an API key and a user name are set"
            yield Finding("config.conflict", text, "connection.api.key", "keep one of the two")

    def _conflicts(self) -> Iterator[Finding]:
        for name, everywhere, topics in (
            ("key.ignore", self.key_ignore, self.topic_key_ignore),
            ("schema.ignore", self.schema_ignore, self.topic_schema_ignore),
        ):
            if everywhere and topics:
                text = f"'topic.{name}' names topics while '{name}' is true for all"
                yield Finding("config.conflict", text, f"topic.{name}", "keep one of the two")
        if self.key_ignore and self.on_null_values == "delete":
            text = "with 'key.ignore' a key names no document, so tombstones delete nothing and are skipped"
            yield Finding("config.no_effect", text, "behavior.on.null.values", severity="warning")
        if self.streams() and (self.merges() or self.on_null_values == "delete"):
            name, value = ("write.method", self.write_method) if self.merges() else (_NULLS, self.on_null_values)
            text = f"'{name}: {value}' is not possible with a data stream: nothing in it is changed or deleted"
            yield Finding(
                "config.conflict", text, name, "write.method: insert, behavior.on.null.values: ignore or fail"
            )
        if self.routing_type == "value" and self.on_null_values == "delete":
            text = "a tombstone has no value to choose a shard by, so it would not find the document it deletes"
            yield Finding(
                "config.conflict", text, "routing.type", "routing.type: key, or behavior.on.null.values: ignore"
            )
        if self.ingest_pipeline and self.merges():
            text = "'ingest.pipeline' has no effect with merges: Elasticsearch does not apply it to updates"
            yield Finding("config.no_effect", text, "ingest.pipeline", severity="warning")
        if self.use_autogenerated_ids and self.merges():
            text = "'use.autogenerated.ids' has no effect with merges: a merge needs the id of its document"
            yield Finding("config.no_effect", text, "use.autogenerated.ids", severity="warning")
        if self.external_version_header and (self.merges() or self.key_ignore or self.streams()):
            text = "'external.version.header' has no effect: only write.method insert with keys uses versions"
            yield Finding("config.no_effect", text, "external.version.header", severity="warning")

    def _resources(self) -> Iterator[Finding]:
        name = "topic.to.external.resource.mapping"
        if (self.external_resource_usage != "DISABLED") != bool(self.resource_mapping):
            text = f"'external.resource.usage' and '{name}' belong together"
            hint = "set both, for example external.resource.usage: INDEX; or neither"
            yield Finding("config.conflict", text, name, hint)
        for pair in self.resource_mapping:
            topic, _, resource = pair.rpartition(":")
            if not topic.strip() or not resource.strip():
                text = f"Invalid value {pair} for configuration {name}: not of the form topic:index"
                yield Finding("config.invalid_value", text, name, "write for example orders:shop-orders")
        if self.resource_mapping and (self.index_name or self.data_stream_type != "NONE"):
            other = "index.name" if self.index_name else "data.stream.type"
            yield Finding("config.conflict", f"'{name}' and '{other}' both say where records go", other, "keep one")
        if len(self.resources()) < len(self.resource_mapping):
            yield Finding("config.conflict", f"a topic is named twice in '{name}'", name, "keep one index per topic")

    def _lost_records(self) -> Iterator[Finding]:
        """Yield warnings about configurations in which newer records can be ignored as outdated."""
        if self.key_ignore or self.merges() or self.use_autogenerated_ids:
            return
        if self.streams():
            text = "a data stream keeps the first record of a key: later records of the key are not written"
            hint = "key.ignore: true writes every record as its own document; for the newest one per key use an index"
            yield Finding("elasticsearch.stream_keeps_first", text, "key.ignore", hint, severity="warning")
        elif not self.external_version_header:
            for index, topics in self.topics_by_index().items():
                if len(topics) > 1:
                    listed = ", ".join(f"'{topic}'" for topic in topics)
                    text = (
                        f"topics {listed} write to one index '{index}': equal keys are one document, whose version is "
                        "the offset in either topic, so a newer record of one topic can be ignored as outdated"
                    )
                    hint = "give each topic its own index, set 'key.ignore', or set 'external.version.header'"
                    yield Finding("elasticsearch.shared_index", text, "topics", hint, severity="warning")

    def topics_by_index(self) -> dict[str, list[str]]:
        """Return the configured topics by index, without topics whose records choose it or have no key."""
        found: dict[str, list[str]] = {}
        for topic in self.topics:
            if self.ignores_key(topic):
                continue
            try:
                name = self.index_of(topic)
            except (DataError, ValueError):
                continue  # reported elsewhere
            if name is not None:
                found.setdefault(name, []).append(topic)
        return found

    def index_of(self, topic: str) -> str | None:
        """Return the index or alias of the topic's records; None when they choose it, or go to data streams.

        Raise DataError for a topic that gives no valid name.
        """
        if self.data_stream_type != "NONE":
            return None
        template = self.name_template()
        return template.of_topic(topic) if template is not None else self.resources().get(topic) or index_name(topic)

    def _not_built(self) -> Iterator[Finding]:
        for name in self.kerberos:
            hint = "use 'connection.username' and 'connection.password', or 'connection.api.key'"
            yield Finding(_NOT_BUILT, "Kerberos is not supported yet", f"kerberos.{name}", hint)
        for name in self.other_https:
            text = f"'elastic.https.{name}' is not supported"
            hint = "certificates are PEM files: 'elastic.https.ssl.truststore.location', '….ssl.keystore.location'"
            yield Finding(_NOT_BUILT, text, f"elastic.https.{name}", hint)
