"""Connection URLs: SQLAlchemy's, and JDBC's translated to them with the parameters of their drivers.

JDBC forms: ``jdbc:postgresql://host:port/database?key=value``, ``jdbc:mysql:…`` and ``jdbc:mariadb:…`` likewise,
``jdbc:sqlite:path``, ``jdbc:sqlserver://host\\instance:port;key=value``, ``jdbc:oracle:thin:@//host:port/service``,
``jdbc:oracle:thin:@host:port:sid``, with ``user/password`` before the ``@``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import parse_qsl

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from headrace import Finding
from headrace_sources.sql.confinement.driver_parameters import parameter_findings

_KEY = "connection.url"

# Drivers for URLs that name none.
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "postgres": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "oracle": "oracle+oracledb",
    "mssql": "mssql+pyodbc",
}


def connection_url(
    text: str, user: str | None, password: str | None, parameters: Mapping[str, str]
) -> tuple[URL | None, list[Finding]]:
    """Return the URL to connect with, and findings; a warning leaves the URL usable.

    No finding quotes the URL: it may hold a password.
    """
    try:
        url = from_jdbc(text) if text[:5].lower() == "jdbc:" else make_url(text)
    except (ArgumentError, ValueError) as error:
        reason = str(error) if isinstance(error, JdbcUrlError) else "it is not a URL"
        hint = "postgresql+psycopg://user:password@host:5432/database, or sqlite:////path/to/file.db"
        return None, [Finding("sql.url", f"connection.url cannot be used: {reason}", _KEY, hint)]
    url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
    url = url.update_query_dict(dict(parameters))
    if user is not None:
        url = url.set(username=user)
    if password is not None:
        url = url.set(password=password)
    for_driver = driver_parameters(url)
    return for_driver, [*parameter_findings(for_driver, parameters), *_java_parameters(url)]


_JDBC_KINDS = frozenset(
    {
        "aws-wrapper", "db2", "derby", "h2", "jtds", "mysql+srv", "redshift", "sap", "snowflake", "sybase", "vertica",
    }
)  # fmt: skip


class JdbcUrlError(ValueError):
    """A URL that cannot be translated. The message says why and holds no secret."""


def from_jdbc(text: str) -> URL:
    """Translate a JDBC URL. Raise JdbcUrlError for an unknown form: no part of a URL is guessed."""
    kind, _, rest = text[5:].partition(":")
    kind = kind.lower()
    if kind in _TRANSLATED:
        return _TRANSLATED[kind](rest)
    known = kind if kind in _JDBC_KINDS else "this form"  # any other text may be a secret
    raise JdbcUrlError(f"JDBC URLs of {known} are not translated, write an SQLAlchemy URL")


def driver_parameters(url: URL) -> URL:
    """Translate parameters of Java's driver to those of Python's, and drop those that only tune Java's."""
    rules = _RULES.get(url.get_backend_name())
    if rules is None:
        return url
    query: dict[str, str] = {}
    for name, value in url.query.items():
        text = value if isinstance(value, str) else ",".join(value)
        rule = rules.get(name, name)
        if isinstance(rule, str):
            query[rule] = text
        elif rule is not None:
            rule(query, text)
    if url.get_backend_name() == "postgresql" and "sslfactory" in url.query:
        _ssl_factory(query, str(url.query["sslfactory"]), explicit="sslmode" in url.query)
    return url.set(query=query)


def _java_parameters(url: URL) -> Iterable[Finding]:
    names = [name for name in url.query if name in _TUNING.get(url.get_backend_name(), ())]
    if names:
        text = f"connection.url: {', '.join(names)} only tunes Java's driver and has no effect"
        yield Finding("config.no_effect", text, _KEY, "remove it, or leave it", severity="warning")
    if url.get_backend_name() == "mysql" and "charset" in url.query:
        text = "charset has no effect: text is always transferred as utf8mb4, which holds every character"
        yield Finding("config.no_effect", text, _KEY, "remove it", severity="warning")


def _ssl_factory(query: dict[str, str], value: str, *, explicit: bool) -> None:
    kind = value.rpartition(".")[2]
    if kind == "NonValidatingFactory":  # encrypts and does not verify the certificate
        query.pop("sslfactory")
        if not explicit:
            query["sslmode"] = "require"
    elif kind == "LibPQFactory":  # reads libpq's own parameters
        query.pop("sslfactory")


def _sqlite(rest: str) -> URL:
    if rest.startswith(":resource:"):
        raise JdbcUrlError("a file inside of a Java archive (:resource:) cannot be read")
    path, _, _ = rest.removeprefix("file:").partition("?")
    return URL.create("sqlite", database=path)


def _postgresql(rest: str) -> URL:
    return _hosts_and_database(rest, "postgresql+psycopg", 5432)


def _mysql(rest: str) -> URL:
    # jdbc:mysql:loadbalance://…, jdbc:mariadb:sequential://…: how Java's driver chooses a server.
    rest = re.sub(r"^(loadbalance|replication|sequential|aurora):", "", rest, flags=re.IGNORECASE)
    if not rest.startswith("//"):
        _refuse_sub_protocol(rest)
        raise JdbcUrlError("it is not of the form jdbc:mysql://host:port/database")
    return _hosts_and_database(rest, "mysql+pymysql", 3306)


def _refuse_sub_protocol(rest: str) -> None:
    """Raise JdbcUrlError for ``name://…``; the text behind the slashes is never shown."""
    name, slashes, _ = rest.partition("://")
    if slashes and "/" not in name and "?" not in name:
        shown = f" '{name}'" if re.fullmatch(r"[A-Za-z][A-Za-z0-9+:_-]{0,30}", name) else ""
        raise JdbcUrlError(f"the sub-protocol{shown} is not translated: leave it out, or write an SQLAlchemy URL")


def _hosts_and_database(rest: str, driver: str, default_port: int) -> URL:
    _refuse_sub_protocol(rest)
    match = re.fullmatch(r"(?://(?P<hosts>[^/?]*)/?)?(?P<database>[^?]*)(?:\?(?P<query>.*))?", rest)
    if match is None or (match["hosts"] is None and re.search(r"[@:]|./", match["database"])):
        raise JdbcUrlError("it is not of the form jdbc:kind://host:port/database")
    query = dict(parse_qsl(match["query"] or "", keep_blank_values=True))
    user, password = query.pop("user", None), query.pop("password", None)
    hosts = [_split_host(host) for host in (match["hosts"] or "localhost").split(",") if host]
    if len(hosts) > 1 and driver.startswith("postgresql"):
        query["host"] = ",".join(host for host, _ in hosts)
        query["port"] = ",".join(str(port or default_port) for _, port in hosts)
    elif len(hosts) > 1:
        raise JdbcUrlError("it names several hosts, and the driver takes one: name the server to read from")
    host, port = hosts[0] if len(hosts) == 1 else (None, None)
    database = match["database"].lstrip("/") or None
    return URL.create(driver, user, password, host, port, database, query)


def _split_host(text: str) -> tuple[str, int | None]:
    if re.search(r"[()=]", text):
        raise JdbcUrlError("address lists such as (host=…)(port=…) are not translated: write host:port")
    match = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^:\[\]@\s]*)(?::(?P<port>\d+))?", text)
    if match is None:
        raise JdbcUrlError("the host is not of the form host:port")
    return match["host"].strip("[]") or "localhost", int(match["port"]) if match["port"] else None


def _sqlserver(rest: str) -> URL:
    # https://learn.microsoft.com/sql/connect/jdbc/building-the-connection-url
    match = re.fullmatch(r"//(?P<host>[^:;\\]*)(?:\\(?P<instance>[^:;]*))?(?::(?P<port>\d+))?(?:;(?P<rest>.*))?", rest)
    if match is None:
        raise JdbcUrlError("it is not of the form jdbc:sqlserver://host:port;databaseName=name")
    pairs = (item.partition("=") for item in (match["rest"] or "").split(";") if item.strip())
    given = {name.strip().lower(): value.strip("{}") for name, _, value in pairs}
    query = {"driver": "ODBC Driver 18 for SQL Server"}
    for name, value in given.items():
        if name in _ODBC:
            query[_ODBC[name]] = {"true": "yes", "false": "no"}.get(value.lower(), value)
    host = match["host"] or given.get("servername")
    if not host:
        raise JdbcUrlError("it names no server: write jdbc:sqlserver://host:port;databaseName=name")
    instance = match["instance"] or given.get("instancename")
    return URL.create(
        "mssql+pyodbc",
        username=given.get("user", given.get("username")),
        password=given.get("password"),
        host=f"{host}\\{instance}" if instance else host,
        port=int(match["port"] or given.get("portnumber", 0)) or None,
        database=given.get("databasename", given.get("database")),
        query=query,
    )


def _oracle(rest: str) -> URL:
    # https://docs.oracle.com/en/database/oracle/oracle-database/23/jjdbc/data-sources-and-URLs.html
    match = re.fullmatch(
        r"(?:thin|oci):(?:(?P<user>[^/@]*)(?:/(?P<password>[^@]*))?)?@(?:(?:tcps?:)?//)?"
        r"(?P<host>[^:/(),@?\s]+)(?::(?P<port>\d+))?(?:/(?P<service>[^:/?]+)|:(?P<sid>\w+))(?:[:/?].*)?",
        rest,
        re.IGNORECASE,
    )
    if match is None:
        raise JdbcUrlError("it is not of the form jdbc:oracle:thin:@//host:port/service")
    return URL.create(
        "oracle+oracledb",
        match["user"] or None,
        match["password"] or None,
        match["host"],
        int(match["port"]) if match["port"] else None,
        match["sid"],
        {"service_name": match["service"]} if match["service"] else {},
    )


_TRANSLATED: Mapping[str, Callable[[str], URL]] = {
    "postgresql": _postgresql,
    "mysql": _mysql,
    "mariadb": _mysql,
    "sqlite": _sqlite,
    "sqlserver": _sqlserver,
    "oracle": _oracle,
}
_ODBC = {
    "encrypt": "Encrypt",
    "trustservercertificate": "TrustServerCertificate",
    "applicationname": "APP",
    "applicationintent": "ApplicationIntent",
    "multisubnetfailover": "MultiSubnetFailover",
    "hostnameincertificate": "HostnameInCertificate",
    "integratedsecurity": "Trusted_Connection",
}

Rule = str | Callable[[dict[str, str], str], None] | None
"""A name to rename to, None to leave out, or what to do with the parameters so far and the value."""


def _search_path(query: dict[str, str], value: str) -> None:
    query["options"] = f"{query.get('options', '')} -csearch_path={value}".strip()


def _verify_full(query: dict[str, str], value: str) -> None:
    if value.lower() in ("true", ""):
        query.setdefault("sslmode", "verify-full")  # the meaning in Java's driver


def _seconds(name: str) -> Callable[[dict[str, str], str], None]:
    def set_seconds(query: dict[str, str], value: str) -> None:
        if value.isdecimal() and int(value):
            query[name] = str(max(1, int(value) // 1000))

    return set_seconds


def _flag(name: str) -> Callable[[dict[str, str], str], None]:
    def set_flag(query: dict[str, str], value: str) -> None:
        if value.lower() not in ("false", "0", "no", "off"):  # PyMySQL treats any text as true
            query[name] = "true"

    return set_flag


def _mysql_tls(query: dict[str, str], value: str) -> None:
    # https://dev.mysql.com/doc/connector-j/en/connector-j-connp-props-security.html, and the old booleans
    mode = value.upper().replace("-", "_")
    if mode in ("DISABLED", "DISABLE", "FALSE"):
        query["ssl_disabled"] = "true"
    elif mode in ("VERIFY_IDENTITY", "VERIFY_FULL"):
        query |= {"ssl_verify_cert": "true", "ssl_verify_identity": "true"}
    elif mode == "VERIFY_CA":
        query["ssl_verify_cert"] = "true"


# Parameters that change how Java's driver works, and nothing that is read.
# https://jdbc.postgresql.org/documentation/use/, https://dev.mysql.com/doc/connector-j/en/
_TUNING: Mapping[str, frozenset[str]] = {
    "postgresql": frozenset(
        {
            "adaptiveFetch", "adaptiveFetchMaximum", "adaptiveFetchMinimum", "allowEncodingChanges",
            "assumeMinServerVersion", "autosave", "binaryTransfer", "binaryTransferDisable", "binaryTransferEnable",
            "cancelSignalTimeout", "cleanupSavepoints", "databaseMetadataCacheFields",
            "databaseMetadataCacheFieldsMiB", "defaultRowFetchSize", "disableColumnSanitiser", "escapeSyntaxCallMode",
            "groupStartupParameters", "hideUnprivilegedObjects", "hostRecheckSeconds", "loadBalanceHosts",
            "logServerErrorDetail", "logUnclosedConnections", "loggerFile", "loggerLevel", "maxResultBuffer",
            "maxSendBufferSize", "preferQueryMode", "preparedStatementCacheQueries", "preparedStatementCacheSizeMiB",
            "prepareThreshold", "protocolVersion", "quoteReturningIdentifiers", "readOnly", "readOnlyMode",
            "receiveBufferSize", "reWriteBatchedInserts", "sendBufferSize", "socketTimeout", "stringtype",
            "tcpKeepAlive", "tcpNoDelay", "unknownLength", "xmlFactoryFactory",
        }
    ),
    "mysql": frozenset(
        {
            "alwaysSendSetIsolation", "autoReconnect", "autoReconnectForPools", "cacheCallableStmts", "cachePrepStmts",
            "cacheResultSetMetadata", "cacheServerConfiguration", "defaultFetchSize", "dontTrackOpenResources",
            "elideSetAutoCommits", "enableQueryTimeouts", "failOverReadOnly", "logger", "maintainTimeStats",
            "maxReconnects", "metadataCacheSize", "noAccessToProcedureBodies", "paranoid", "prepStmtCacheSize",
            "prepStmtCacheSqlLimit", "profileSQL", "rewriteBatchedStatements", "roundRobinLoadBalance",
            "slowQueryThresholdMillis", "tcpKeepAlive", "tcpNoDelay", "tcpRcvBuf", "tcpSndBuf", "useBulkStmts",
            "useCompression", "useConfigs", "useCursorFetch", "useInformationSchema", "useLocalSessionState",
            "useLocalTransactionState", "useReadAheadInput", "useServerPrepStmts", "useUnbufferedInput",
        }
    ),
}  # fmt: skip

_RULES: Mapping[str, Mapping[str, Rule]] = {
    "postgresql": {
        "ApplicationName": "application_name",
        "connectTimeout": "connect_timeout",
        "loginTimeout": "connect_timeout",
        "targetServerType": "target_session_attrs",
        "currentSchema": _search_path,
        "ssl": _verify_full,
        "sslfactory": "sslfactory",  # see _ssl_factory
        **dict.fromkeys(_TUNING["postgresql"]),
    },
    "mysql": {
        "connectTimeout": _seconds("connect_timeout"),
        "socketTimeout": _seconds("read_timeout"),
        "sslMode": _mysql_tls,
        **{name: _flag(name) for name in ("ssl_disabled", "ssl_verify_cert", "ssl_verify_identity")},
        "useSSL": _mysql_tls,
        "useSsl": _mysql_tls,
        "sessionVariables": lambda query, value: query.__setitem__("init_command", f"SET SESSION {value}"),
        "charset": None,  # PyMySQL's: cp1252, which it means by latin1, lacks characters that the column may have
        # Dates out of range: see temporal.out.of.range. The others describe what holds here anyway.
        **dict.fromkeys(
            (
                "zeroDateTimeBehavior", "serverTimezone", "connectionTimeZone", "forceConnectionTimeZoneToSession",
                "useLegacyDatetimeCode", "useTimezone", "useUnicode", "characterEncoding", "characterSetResults",
                "connectionCollation", "allowPublicKeyRetrieval", "tinyInt1isBit", "transformedBitIsBoolean",
                "yearIsDateType", "nullCatalogMeansCurrent", "nullDatabaseMeansCurrent", "databaseTerm", "requireSSL",
                "verifyServerCertificate", "permitMysqlScheme", "allowMultiQueries",
            )
        ),
        **dict.fromkeys(_TUNING["mysql"]),
    },
}  # fmt: skip
