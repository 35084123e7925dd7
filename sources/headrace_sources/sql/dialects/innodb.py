"""Open transactions of InnoDB, in MariaDB and MySQL.

``information_schema.innodb_trx`` is a copy that the server refreshes only when it was not read for a tenth of a second,
so each query carries a mark of its own: a copy that contains the querying statement is newer than the statement. A
statement takes its time when it begins, which may be long before it has a transaction (it waits for a table's metadata
lock), so running statements count, too. The first write of a transaction changes its id.

https://mariadb.com/kb/en/information-schema-innodb_trx-table/,
https://dev.mysql.com/doc/refman/8.4/en/innodb-information-schema-internal-data.html
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, text

from headrace import RetriableError
from headrace_sources.sql.dialects.dialect import OpenTransaction

_REFRESHED_AFTER = 0.11
"""Seconds without a read after which the server refreshes the copy."""
_TIMEOUT = 5.0
_WRITES = 2**48
"""Transactions that have written have ids below this; others are shown with an address in memory."""
_marks = itertools.count(1)

# MySQL has no query_id: the second in which the statement began stands for it.
_STATEMENTS = """
    SELECT id, {query}, user, coalesce(db, '') FROM information_schema.processlist
    WHERE id <> connection_id() AND command NOT IN ('Sleep', 'Daemon', 'Binlog Dump', 'Binlog Dump GTID', 'Connect')
"""
_TRANSACTIONS = """
    SELECT /* {mark} */ trx_id, trx_mysql_thread_id, cast(trx_started AS char), coalesce(trx_query, ''),
        timestampdiff(second, trx_started, now()), trx_mysql_thread_id = connection_id()
    FROM information_schema.innodb_trx
"""


def hidden_transactions_reason(connection: Connection) -> str | None:
    """Return why the open transactions cannot be listed; None = they can."""
    if connection.execute(text("SELECT @@global.read_only")).scalar_one() not in (0, "0", "OFF", False):
        return "the server is read-only, a replica, which does not know the transactions that are open on its primary"
    granted = "SELECT count(*) FROM information_schema.user_privileges WHERE privilege_type = 'PROCESS'"
    if connection.execute(text(granted)).scalar_one():
        return None
    return "the user may not see open transactions; GRANT PROCESS ON *.* TO it"


def open_transactions(
    connection: Connection, monotonic: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
) -> Sequence[OpenTransaction]:
    """Return all open transactions, and the statements that have none yet. Raise RetriableError."""
    mariadb = bool(getattr(connection.dialect, "is_mariadb", False))
    query = "query_id" if mariadb else "unix_timestamp() - time"
    # Statements first: one that gets a transaction before the second query is then in both results.
    running = connection.execute(text(_STATEMENTS.format(query=query))).all()
    end = monotonic() + _TIMEOUT
    while (found := _transactions(connection)) is None:
        if monotonic() > end:
            raise RetriableError(
                "the list of open transactions is out of date, because other clients read it all the time",
                code="sql.busy",
                hint="read information_schema.innodb_trx less often elsewhere, or set cursor.overlap",
            )
        pause(_REFRESHED_AFTER)
    with_transaction = {item.lineage for item in found} | {lineage for item in found for lineage in item.continues}
    statements = [
        OpenTransaction(
            f"statement {thread}/{number}", f"connection {thread} (user {user}, database '{db}')", lineage=f"s{thread}"
        )
        for thread, number, user, db in running
        if f"s{thread}" not in with_transaction
    ]
    return [*found, *statements]


def _transactions(connection: Connection) -> list[OpenTransaction] | None:
    """Return None if the server's copy is out of date."""
    connection.rollback()
    connection.execute(text("START TRANSACTION WITH CONSISTENT SNAPSHOT"))
    mark = f"headrace {os.getpid()} {next(_marks)}"
    rows = connection.execute(text(_TRANSACTIONS.format(mark=mark))).all()
    connection.rollback()
    if not any(int(own) and mark in query for *_, query, _, own in rows):
        return None
    found = []
    for number, thread, started, _, age, own in rows:
        if int(own):
            continue
        # A prepared transaction (XA) whose connection has gone keeps its number.
        writes = str(number).isdecimal() and int(number) < _WRITES
        who = f"transaction {number} of connection {thread}"
        if writes:
            found.append(
                OpenTransaction(f"transaction {number}", who, age=float(age), continues=(f"s{thread}", f"r{thread}"))
            )
        else:
            name = f"reading {thread}/{started}"
            found.append(OpenTransaction(name, who, age=float(age), lineage=f"r{thread}", continues=(f"s{thread}",)))
    return found
