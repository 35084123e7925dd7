"""Keys of the registry client and of ids and subjects, which converters of all formats have."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BeforeValidator

from headrace import UPPER, CommaList, ConfigModel, Duration, Finding, FixedKey, Secret, key

_SERIALIZERS = "io.confluent.kafka.serializers."
_STRATEGY = (
    "Names the subject of a schema: `TopicNameStrategy` (`<topic>-key`, `<topic>-value`), `RecordNameStrategy` (the "
    "record's full name) or `TopicRecordNameStrategy` (`<topic>-<name>`), with or without the package of the class."
)
_ID = (
    "Where the id of the schema is written: `PrefixSchemaIdSerializer`: before the value; `HeaderSchemaIdSerializer`: "
    "the schema's GUID in a header of the record, which needs a registry that has GUIDs. Both are read always."
)
Strategy = Literal["TopicNameStrategy", "RecordNameStrategy", "TopicRecordNameStrategy"]
IdSerializer = Literal["PrefixSchemaIdSerializer", "HeaderSchemaIdSerializer"]


def _without(package: str) -> BeforeValidator:
    return BeforeValidator(lambda value: value.strip().removeprefix(package) if isinstance(value, str) else value)


_STRATEGY_CLASS = _without(f"{_SERIALIZERS}subject.")
_ID_CLASS = _without(f"{_SERIALIZERS}schema.id.")
_DUAL = f"{_SERIALIZERS}schema.id.DualSchemaIdDeserializer"
_BOTH_ARE_READ = "ids in headers and before the value are read"
_PEM = "only PEM files are read, which have no type and no password of their own"


class OptionalPackage(NamedTuple):
    """A library that a converter needs, and the extra that installs it."""

    module: str
    name: str
    extra: str

    @property
    def is_installed(self) -> bool:
        try:
            return importlib.util.find_spec(self.module) is not None
        except ModuleNotFoundError:  # a package above it
            return False


class SchemaRegistryConfig(ConfigModel):
    """Keys of Confluent's converters and of their registry client."""

    converter: ClassVar[str]
    """The name of the converter, in messages."""

    urls: CommaList = key(
        "schema.registry.url",
        doc="Addresses of the schema registry, between commas: the next one is asked when one is unavailable.",
        importance="high",
        min_length=1,
    )
    auto_register: bool = key(
        "auto.register.schemas",
        default=True,
        doc="Register the schemas of written records. false: they must be registered already.",
    )
    use_latest: bool = key(
        "use.latest.version",
        default=False,
        doc="Read records as the latest version of their subject, and write with it when `auto.register.schemas` is "
        "false.",
    )
    latest_strict: bool = key(
        "latest.compatibility.strict",
        default=True,
        doc="With `use.latest.version`: refuse records with fields that the latest version does not have. false: leave "
        "the fields out.",
    )
    latest_ttl: int = key(
        "latest.cache.ttl.sec",
        default=300,
        ge=-1,
        doc="Seconds after which the latest version is asked for again; -1: never.",
        importance="low",
    )
    normalize: bool = key(
        "normalize.schemas",
        default=False,
        doc="Let the registry compare schemas in a normal form.",
        importance="low",
    )
    key_strategy: Annotated[Strategy, _STRATEGY_CLASS] = key(
        "key.subject.name.strategy", default="TopicNameStrategy", doc=f"For keys. {_STRATEGY}"
    )
    value_strategy: Annotated[Strategy, _STRATEGY_CLASS] = key(
        "value.subject.name.strategy", default="TopicNameStrategy", doc=f"For values. {_STRATEGY}"
    )
    key_id_serializer: Annotated[IdSerializer, _ID_CLASS] = key(
        "key.schema.id.serializer", default="PrefixSchemaIdSerializer", doc=f"For keys. {_ID}", importance="low"
    )
    value_id_serializer: Annotated[IdSerializer, _ID_CLASS] = key(
        "value.schema.id.serializer", default="PrefixSchemaIdSerializer", doc=f"For values. {_ID}", importance="low"
    )
    ignore_defaults: bool = key(
        "ignore.default.for.nullables",
        default=False,
        doc="Write the null of an optional field as null, also when its schema has a default.",
    )
    cache_size: int = key(
        "schemas.cache.config", default=1000, ge=1, doc="Most schemas to keep prepared.", importance="low"
    )
    credentials_source: Annotated[Literal["URL", "USER_INFO"], UPPER] = key(
        "basic.auth.credentials.source",
        default="URL",
        doc="Where user and password are: in `schema.registry.url` (`https://user:password@host`), or `USER_INFO`: in "
        "`basic.auth.user.info`.",
        group="Security",
    )
    user_info: Secret | None = key(
        "basic.auth.user.info", default=None, doc="`user:password`, with `USER_INFO`.", group="Security"
    )
    old_user_info: Secret | None = key(
        "schema.registry.basic.auth.user.info",
        default=None,
        doc="The former name of `basic.auth.user.info`.",
        group="Security",
        importance="low",
    )
    bearer_source: Annotated[Literal["STATIC_TOKEN"], UPPER] | None = key(
        "bearer.auth.credentials.source",
        default=None,
        doc="`STATIC_TOKEN`: `bearer.auth.token` is sent. Other sources are not supported.",
        group="Security",
    )
    bearer_token: Secret | None = key("bearer.auth.token", default=None, doc="The token.", group="Security")
    ca_file: str | None = key(
        "schema.registry.ssl.truststore.location",
        default=None,
        doc="File with the certificates (PEM) of the trusted authorities. Default: the authorities of the system.",
        group="Security",
        file=True,
    )
    client_certificate: str | None = key(
        "schema.registry.ssl.keystore.location",
        default=None,
        doc="PEM file with the client's certificate and its private key.",
        group="Security",
        file=True,
    )
    key_password: Secret | None = key(
        "schema.registry.ssl.key.password", default=None, doc="Password of the private key.", group="Security"
    )
    host_name_check: Literal["https", ""] = key(
        "schema.registry.ssl.endpoint.identification.algorithm",
        default="https",
        doc="`https`: the certificate must contain the host name. Empty: any trusted certificate is accepted.",
        group="Security",
        importance="low",
    )
    connect_timeout: Duration = key(
        "http.connect.timeout.ms", default=5_000, ge=1, doc="Longest wait for a connection.", importance="low"
    )
    read_timeout: Duration = key(
        "http.read.timeout.ms", default=10_000, ge=1, doc="Longest wait for an answer.", importance="low"
    )

    ignored_keys: ClassVar[Mapping[str, str]] = {
        "schemas.enable": "records always have a schema, in Kafka Connect too",
        "max.schemas.per.subject": "`schemas.cache.config` bounds the cache",
        "schema.registry.ssl.truststore.password": "PEM files need none",
        "schema.registry.ssl.keystore.password": "PEM files need none; the key's is `schema.registry.ssl.key.password`",
        "schema.registry.ssl.protocol": "TLS 1.2 and 1.3 are used",
        "schema.registry.ssl.enabled.protocols": "TLS 1.2 and 1.3 are used",
    }
    fixed_keys: ClassVar[Mapping[str, FixedKey]] = {
        "schema.registry.ssl.truststore.type": FixedKey(("PEM",), _PEM),
        "schema.registry.ssl.keystore.type": FixedKey(("PEM",), _PEM),
        "generalized.sum.type.support": FixedKey(("false",), "unions and enums have the names of their format only"),
        "key.schema.id.deserializer": FixedKey((_DUAL,), _BOTH_ARE_READ),
        "value.schema.id.deserializer": FixedKey((_DUAL,), _BOTH_ARE_READ),
    }
    unsupported_keys: ClassVar[Mapping[str, tuple[str, str]]] = {
        "use.schema.id": ("the id of a schema is chosen by the registry", "use `use.latest.version`"),
        "proxy.host": ("the registry is asked without a proxy", "name an address that the worker can reach"),
        "proxy.port": ("the registry is asked without a proxy", "name an address that the worker can reach"),
    }

    @property
    def writes_latest(self) -> bool:
        """Whether records are written with the latest version of their subject."""
        return self.use_latest and not self.auto_register

    @property
    def basic_auth(self) -> str:
        """``user:password`` of ``basic.auth.user.info``; empty = none."""
        secret = self.user_info or self.old_user_info
        return secret.get_secret_value() if secret is not None and self.credentials_source == "USER_INFO" else ""

    def packages(self) -> Iterable[OptionalPackage]:
        """Return the libraries that this configuration needs."""
        return ()

    def problems(self) -> Iterable[Finding]:
        for package in self.packages():
            if not package.is_installed:
                text = f"{self.converter} needs the package {package.name}, which is not installed"
                hint = f"pip install 'headrace[{package.extra}]'"
                yield Finding("converter.missing_package", text, "", hint, cause="environment")
        for url in self.urls:
            if (problem := _url_problem(url)) is not None:
                text = f"Invalid value for configuration schema.registry.url: {problem}"
                yield Finding("config.invalid_value", text, "schema.registry.url", "for example http://registry:8081")
        if self.use_latest and self.auto_register:
            text = "use.latest.version concerns reading only, because auto.register.schemas is true"
            hint = "to write with the latest version, set auto.register.schemas: false"
            yield Finding("config.ignored_key", text, "use.latest.version", hint, severity="warning")
        name = "basic.auth.user.info"
        if self.credentials_source == "USER_INFO" and ":" not in self.basic_auth:
            text = f"basic.auth.credentials.source is USER_INFO, and {name} is not 'user:password'"
            yield Finding("config.conflict", text, name, "set it")
        elif self.credentials_source == "URL" and (self.user_info or self.old_user_info) is not None:
            text = f"{name} is not used: basic.auth.credentials.source is URL"
            yield Finding("config.conflict", text, name, "set basic.auth.credentials.source: USER_INFO")
        if (self.bearer_source is None) != (self.bearer_token is None):
            text = "bearer.auth.credentials.source and bearer.auth.token need each other"
            yield Finding("config.conflict", text, "bearer.auth.token", "set both, or none")
        elif self.bearer_token is not None and self.basic_auth:
            text = "both a token and a user are set"
            yield Finding("config.conflict", text, "bearer.auth.token", "keep one of the two")


def _url_problem(url: str) -> str | None:
    """Return what is wrong with an address, without the address, which may hold a password."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (raises ValueError for what is no port)
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "an address begins with http:// or https://"
    return None
