"""Addresses and versions of the engines, as tests receive them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import psycopg
import pymysql
from sqlalchemy import URL, make_url

_TIMEOUT = 10


@dataclass(frozen=True)
class KafkaAddress:
    bootstrap_servers: str
    version: str


@dataclass(frozen=True)
class HttpAddress:
    url: str
    version: str


@dataclass(frozen=True)
class SqlAddress:
    url: str
    version: str


Address = KafkaAddress | HttpAddress | SqlAddress


def external_kafka(servers: str) -> KafkaAddress:
    """Return the address without a version, which a broker does not report."""
    return KafkaAddress(servers, "")


def external_elasticsearch(url: str) -> HttpAddress:
    with urlopen(url, timeout=_TIMEOUT) as answer:
        return HttpAddress(url.rstrip("/"), json.load(answer)["version"]["number"])


def external_postgres(url: str) -> SqlAddress:
    with psycopg.connect(libpq_url(url), connect_timeout=_TIMEOUT) as connection:
        return SqlAddress(url, connection.info.parameter_status("server_version") or "")


def external_mariadb(url: str) -> SqlAddress:
    connection = pymysql.connect(**pymysql_arguments(url))
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT version()")
            row = cursor.fetchone()
        found = re.match(r"\d+(?:\.\d+)+", str(row[0])) if row else None
        return SqlAddress(url, found.group() if found else "")
    finally:
        connection.close()


def libpq_url(url: str | URL) -> str:
    """Return a SQLAlchemy URL in the form of libpq."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def pymysql_arguments(url: str | URL) -> dict[str, Any]:
    """Return a SQLAlchemy URL as arguments of PyMySQL's ``connect``, with autocommit."""
    parsed = make_url(url)
    return {
        "host": parsed.host or "127.0.0.1",
        "port": parsed.port or 3306,
        "user": parsed.username,
        "password": parsed.password or "",
        "database": parsed.database,
        "autocommit": True,
        "connect_timeout": _TIMEOUT,
    }
