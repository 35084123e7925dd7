"""Connection URLs: SQLAlchemy's and JDBC's, to what the driver takes; no finding shows a password."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import URL, make_url

from headrace_sources.sql.configuration.urls import connection_url

SECRET = "s3cret-do-not-show"


def url_of(text: str, user: str | None = None, password: str | None = None, **parameters: str) -> URL:
    url, findings = connection_url(text, user, password, parameters)
    assert findings == []
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
def test_urls(text: str, expected: str) -> None:
    assert url_of(text) == make_url(expected)


def test_several_hosts() -> None:
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
def test_parameters_of_the_java_driver(parameters: str, expected: dict[str, str]) -> None:
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
def test_parameters_of_the_java_driver_of_mysql(parameters: str, expected: dict[str, str]) -> None:
    assert dict(url_of(f"jdbc:mysql://h/d?{parameters}").query) == expected


def test_a_flag_of_pymysql_that_is_false_is_left_out() -> None:
    assert url_of("mysql://h/d", ssl_disabled="false", ssl_verify_cert="true").query == {"ssl_verify_cert": "true"}


def test_several_hosts_of_mysql_are_refused() -> None:
    url, [finding] = connection_url("jdbc:mysql://a,b/d", None, None, {})

    assert url is None
    assert "several hosts" in finding.message


def test_connection_keys_reach_the_driver() -> None:
    assert url_of("postgresql://h/d", sslmode="require").query == {"sslmode": "require"}


def test_user_and_password_of_their_own_keys_win() -> None:
    url = url_of("postgresql://one:first@h/d", "two", "second")

    assert (url.username, url.password) == ("two", "second")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1))
def test_any_password_reaches_the_driver_as_it_is(password: str) -> None:
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
def test_what_cannot_be_used_is_told_without_its_text(text: str) -> None:
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


def test_a_mistyped_key_of_ours_is_no_parameter() -> None:
    _, [finding] = connection_url("postgresql://h/d", None, None, {"pasword": "x"})

    assert "'connection.password'" in finding.hint
