"""Connection URLs of SQLAlchemy and JDBC are converted for the driver, and no finding shows a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from headrace_sources.sql.configuration.urls import connection_url

SECRET = "s3cret-do-not-show"


def url_of(text: str, user: str | None = None, password: str | None = None, **parameters: str) -> URL:
    url, findings = connection_url(text, user, password, parameters)
    assert [finding for finding in findings if finding.severity == "error"] == []
    assert url is not None
    return url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql+psycopg://u:p@h:5433/d", "postgresql+psycopg://u:p@h:5433/d"),
        ("postgresql://u@h/d", "postgresql+psycopg://u@h/d"),
        ("postgres://u@h/d", "postgresql+psycopg://u@h/d"),
        ("jdbc:postgresql://h:5433/d", "postgresql+psycopg://h:5433/d"),
        ("jdbc:postgresql://h/d", "postgresql+psycopg://h/d"),
        ("jdbc:postgresql://h/d?user=u&password=p", "postgresql+psycopg://u:p@h/d"),
        ("jdbc:postgresql:d", "postgresql+psycopg://localhost/d"),
        ("jdbc:postgresql:/", "postgresql+psycopg://localhost"),
        ("jdbc:postgresql://[::1]:5433/d", "postgresql+psycopg://[::1]:5433/d"),
        ("jdbc:sqlite:/var/lib/a.db", "sqlite:////var/lib/a.db"),
        ("mysql://u:p@h/d", "mysql+pymysql://u:p@h/d"),
        ("mariadb://h/d", "mysql+pymysql://h/d"),
        ("jdbc:mysql://h:3307/d?user=u&password=p", "mysql+pymysql://u:p@h:3307/d"),
        ("jdbc:mariadb:sequential://h/d", "mysql+pymysql://h/d"),
        ("jdbc:oracle:thin:@//h:1521/service", "oracle+oracledb://h:1521?service_name=service"),
        ("jdbc:oracle:thin:@h:1521/service", "oracle+oracledb://h:1521?service_name=service"),
        ("jdbc:oracle:thin:u/p@h:1521:ORCL", "oracle+oracledb://u:p@h:1521/ORCL"),
        (
            "jdbc:sqlserver://h:1433;databaseName=d;user=u;password={p};encrypt=false",
            "mssql+pyodbc://u:p@h:1433/d?driver=ODBC+Driver+18+for+SQL+Server&Encrypt=no",
        ),
        (
            "jdbc:sqlserver://h\\SQLEXPRESS;database=d;integratedSecurity=true",
            "mssql+pyodbc://h\\SQLEXPRESS/d?driver=ODBC+Driver+18+for+SQL+Server&Trusted_Connection=yes",
        ),
        ("jdbc:sqlite:a.db", "sqlite:///a.db"),
        ("sqlite:////var/lib/a.db", "sqlite:////var/lib/a.db"),
    ],
)
def test_a_url_is_converted_for_the_driver(text: str, expected: str) -> None:
    assert url_of(text) == make_url(expected)


def test_several_hosts_of_postgresql_are_passed_to_the_driver() -> None:
    url = url_of("jdbc:postgresql://a:1,b/d?targetServerType=primary")

    assert url.host is None
    assert url.query == {"host": "a,b", "port": "1,5432", "target_session_attrs": "primary"}


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("sslmode=require", {"sslmode": "require"}),
        ("ssl=true", {"sslmode": "verify-full"}),
        ("ssl=true&sslmode=require", {"sslmode": "require"}),
        ("ssl=false", {}),
        ("ApplicationName=x&connectTimeout=5", {"application_name": "x", "connect_timeout": "5"}),
        ("currentSchema=s", {"options": "-csearch_path=s"}),
        ("prepareThreshold=0&tcpKeepAlive=true", {}),
    ],
)
def test_parameters_of_the_postgresql_java_driver_are_converted(parameters: str, expected: dict[str, str]) -> None:
    assert dict(url_of(f"jdbc:postgresql://h/d?{parameters}").query) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("useCursorFetch=true&zeroDateTimeBehavior=convertToNull&serverTimezone=UTC", {}),
        ("connectTimeout=5000&socketTimeout=60000", {"connect_timeout": "5", "read_timeout": "60"}),
        ("sslMode=VERIFY_IDENTITY", {"ssl_verify_cert": "true", "ssl_verify_identity": "true"}),
        ("sslMode=DISABLED", {"ssl_disabled": "true"}),
        ("useSSL=false", {"ssl_disabled": "true"}),
        ("sessionVariables=max_statement_time=5", {"init_command": "SET SESSION max_statement_time=5"}),
    ],
)
def test_parameters_of_the_mysql_java_driver_are_converted(parameters: str, expected: dict[str, str]) -> None:
    assert dict(url_of(f"jdbc:mysql://h/d?{parameters}").query) == expected


def test_a_flag_of_pymysql_that_is_false_is_left_out() -> None:
    assert url_of("mysql://h/d", ssl_disabled="false", ssl_verify_cert="true").query == {"ssl_verify_cert": "true"}


def test_several_hosts_of_mysql_are_refused() -> None:
    url, [finding] = connection_url("jdbc:mysql://a,b/d", None, None, {})

    assert url is None
    assert "several hosts" in finding.message


def test_connection_keys_reach_the_driver() -> None:
    assert url_of("postgresql://h/d", sslmode="require").query == {"sslmode": "require"}


def test_user_and_password_keys_take_precedence_over_the_url() -> None:
    url = url_of("postgresql://one:first@h/d", "two", "second")

    assert (url.username, url.password) == ("two", "second")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_password_reaches_the_driver_unchanged(password: str) -> None:
    assert url_of("postgresql://h/d", "u", password).password == password


@pytest.mark.parametrize(
    "text",
    [
        f"jdbc:db2://u:{SECRET}@h/d",
        f"no url {SECRET}",
        f"jdbc:{SECRET}",
        f"jdbc:postgresql://h:{SECRET}/d",
        "",
        "jdbc:",
    ],
)
def test_an_unusable_url_is_reported_without_its_text(text: str) -> None:
    url, [finding] = connection_url(text, None, None, {})

    assert url is None
    assert (finding.code, finding.key) == ("sql.url", "connection.url")
    assert SECRET not in str(finding)
    assert "postgresql+psycopg://" in finding.hint


def test_an_unknown_parameter_names_the_nearest() -> None:
    _, [finding] = connection_url("postgresql://h/d?sslmod=require", None, None, {})
    assert (finding.code, finding.key) == ("sql.url", "connection.url")
    assert "'sslmode'" in finding.hint

    _, [finding] = connection_url("postgresql://h/d", None, None, {"sslmod": "require"})
    assert (finding.code, finding.key) == ("config.unknown_key", "connection.sslmod")
    assert "'connection.sslmode'" in finding.hint


def test_a_misspelled_key_of_headrace_is_not_taken_for_a_driver_parameter() -> None:
    _, [finding] = connection_url("postgresql://h/d", None, None, {"pasword": "x"})

    assert "'connection.password'" in finding.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jdbc:mysql:aws://db.example:3306/shop", "sub-protocol 'aws'"),
        ("jdbc:mysql:foo:bar://db.example:3306/shop", "sub-protocol 'foo:bar'"),
        ("jdbc:mariadb:loadbalance:foo://db.example/shop", "sub-protocol 'foo'"),
        ("jdbc:postgresql:aws://db.example:5432/shop", "sub-protocol 'aws'"),
        ("jdbc:mysql://address=(host=db.example)(port=3306)/shop", "address lists"),
        ("jdbc:mysql://(host=db.example,port=3306)/shop", "address lists"),
        ("jdbc:mysql:shop", "jdbc:mysql://host:port/database"),
        ("jdbc:oracle:thin:@ldap://db.example:389/cn=x", "jdbc:oracle:thin:@//host:port/service"),
        ("jdbc:oracle:thin:@shop_tns", "jdbc:oracle:thin:@//host:port/service"),
        ("jdbc:oracle:thin:@(DESCRIPTION=(ADDRESS=(HOST=db.example)))", "jdbc:oracle:thin:@//host:port/service"),
        ("jdbc:sqlserver://;databaseName=shop", "names no server"),
        ("jdbc:sqlite::resource:shop.db", ":resource:"),
        ("jdbc:aws-wrapper:mysql://db.example/shop", "aws-wrapper"),
    ],
)
def test_f7_an_unknown_form_is_refused_with_its_name(text: str, said: str) -> None:
    url, [finding] = connection_url(text, None, None, {})

    assert url is None
    assert said in finding.message


@given(
    st.sampled_from(["postgresql", "mysql", "mariadb", "sqlserver", "oracle", "oracle:thin", "POSTGRESQL"]),
    st.from_regex(r"([a-z][a-z0-9+_-]{0,8}:){0,3}", fullmatch=True),
    st.sampled_from(["//db.example:4711/shop", "@//db.example:4711/shop", "@db.example:4711:shop"]),
)
def test_f7_a_sub_protocol_never_changes_the_host(kind: str, sub_protocols: str, rest: str) -> None:
    url, findings = connection_url(f"jdbc:{kind}:{sub_protocols}{rest}", None, None, {})

    assert findings if url is None else url.host == "db.example"


def test_f14_jdbc_urls_may_be_in_upper_case() -> None:
    assert url_of("JDBC:POSTGRESQL://H:5433/d") == make_url("postgresql+psycopg://H:5433/d")
    assert url_of("Jdbc:MySQL:LoadBalance://h/d") == make_url("mysql+pymysql://h/d")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("jdbc:postgresql://h/d?assumeMinServerVersion=9.0&loggerLevel=OFF&loadBalanceHosts=true",
         ("assumeMinServerVersion", "loggerLevel", "loadBalanceHosts")),
        ("jdbc:mysql://h/d?cachePrepStmts=true&useCursorFetch=true", ("cachePrepStmts", "useCursorFetch")),
    ],
)  # fmt: skip
def test_f14_parameters_that_only_tune_java_are_accepted_with_a_note(text: str, names: tuple[str, ...]) -> None:
    url, [note] = connection_url(text, None, None, {})

    assert url is not None
    assert dict(url.query) == {}
    assert (note.severity, note.code) == ("warning", "config.no_effect")
    assert all(name in note.message for name in names)


@pytest.mark.parametrize(
    ("parameters", "sslmode"),
    [
        ("sslfactory=org.postgresql.ssl.NonValidatingFactory", "require"),
        ("ssl=true&sslfactory=org.postgresql.ssl.NonValidatingFactory", "require"),
        ("sslmode=verify-full&sslfactory=org.postgresql.ssl.NonValidatingFactory", "verify-full"),
        ("ssl=true&sslfactory=org.postgresql.ssl.LibPQFactory", "verify-full"),
    ],
)
def test_f14_the_ssl_factory_of_java_becomes_an_sslmode(parameters: str, sslmode: str) -> None:
    assert dict(url_of(f"jdbc:postgresql://h/d?{parameters}").query) == {"sslmode": sslmode}


def test_f14_another_ssl_factory_is_refused_with_what_to_set_instead() -> None:
    _, [finding] = connection_url("jdbc:postgresql://h/d?sslfactory=com.example.Ours", None, None, {})

    assert finding.severity == "error"
    assert "sslmode" in finding.hint


@pytest.mark.parametrize("text", ["jdbc:mariadb://h/d?charset=latin1", "mysql+pymysql://u:p@h/d?charset=latin1"])
def test_f11_the_charset_of_the_connection_is_always_utf8mb4(text: str) -> None:
    url, [note] = connection_url(text, None, None, {})

    assert url is not None
    assert "charset" not in url.query
    assert (note.severity, note.code) == ("warning", "config.no_effect")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("mysql+pymysql://u:p@h/d?local_infile=1", "local_infile"),
        ("mysql://u:p@h/d?local_infile=true", "local_infile"),
        ("mysql://u:p@h/d?read_default_file=/etc/passwd", "read_default_file"),
        ("mysql://u:p@h/d?read_default_group=a", "read_default_group"),
        ("jdbc:mysql://h/d?local_infile=1", "local_infile"),
        ("mysql+mysqldb://u:p@h/d?local_infile=1", "local_infile"),
        ("mysql+mysqlconnector://u:p@h/d?allow_local_infile=1", "allow_local_infile"),
        ("mssql+pyodbc://h/d?odbc_connect=DRIVER%3D%2Ftmp%2Fx.so", "odbc_connect"),
        ("postgresql://h/d?plugin=evil", "plugin"),
        ("sqlite:////a.db?plugin=evil", "plugin"),
        ("sqlite:////a.db?vfs=unix-none", "vfs"),
        ("oracle://h/d?config_dir=/tmp", "config_dir"),
    ],
)
def test_parameters_that_read_files_or_load_code_are_refused(text: str, name: str) -> None:
    """Finding 3 of the security review: a rogue server received files of the worker's machine."""
    _, findings = connection_url(text, None, None, {})
    assert [name in finding.message for finding in findings if finding.severity == "error"] == [True]


def test_a_key_that_reads_files_or_loads_code_is_refused() -> None:
    """Finding 3 of the security review."""
    _, (finding,) = connection_url("mysql://h/d", None, None, {"local_infile": "1"})
    assert (finding.code, finding.key) == ("config.unknown_key", "connection.local_infile")
    assert "no file of this machine" in finding.hint


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("sqlite:///file:/a.db?mode=rwc&uri=true", False),
        ("sqlite:///file:/a.db?uri=true", False),
        ("sqlite:///file:/a.db?mode=rw&uri=true", False),
        ("sqlite:///file:/a.db?mode=ro&uri=true", True),
        ("sqlite:////a.db?timeout=3", True),
        ("mssql+pyodbc://h/d?driver=/tmp/evil.so", False),
        ("mssql+pyodbc://h/d?driver=ODBC+Driver+18+for+SQL+Server", True),
    ],
)
def test_values_that_create_files_or_name_libraries_are_refused(text: str, allowed: bool) -> None:
    """Finding 11 of the security review: an SQLite URI created a file."""
    _, findings = connection_url(text, None, None, {})
    assert (findings == []) is allowed
