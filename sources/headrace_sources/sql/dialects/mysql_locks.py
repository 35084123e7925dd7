"""What a statement of MySQL or MariaDB waits for, and which connection holds the lock.

Reads wait for metadata locks only: of LOCK TABLES, and of ALTER TABLE and other definitions, which may wait for older
transactions themselves. ``performance_schema.metadata_locks`` names their holders. MySQL has it by default; of MariaDB
it must be switched on.

https://dev.mysql.com/doc/refman/8.4/en/performance-schema-metadata-locks-table.html,
https://mariadb.com/kb/en/performance-schema-metadata_locks-table/
"""

from __future__ import annotations

from typing import Any

import pymysql

_STATE = "SELECT state FROM information_schema.processlist WHERE id = %s"
# Only these conflict with a read. One that is PENDING waits itself, and later reads wait behind it.
_HOLDERS = """
    SELECT holder.processlist_id, holder.processlist_user, holder.processlist_host,
        coalesce((
            SELECT min(attr_value) FROM performance_schema.session_connect_attrs
            WHERE processlist_id = holder.processlist_id AND attr_name = 'program_name'
        ), ''),
        held.lock_status = 'PENDING',
        coalesce(holder.processlist_info, (
            SELECT min(sql_text) FROM performance_schema.events_statements_current
            WHERE thread_id = holder.thread_id
        ), '')
    FROM performance_schema.threads waiting
    JOIN performance_schema.metadata_locks wanted
        ON wanted.owner_thread_id = waiting.thread_id AND wanted.lock_status = 'PENDING'
    JOIN performance_schema.metadata_locks held
        ON held.object_type = wanted.object_type AND held.object_schema = wanted.object_schema
        AND held.object_name = wanted.object_name AND held.owner_thread_id <> wanted.owner_thread_id
        AND held.lock_type IN ('EXCLUSIVE', 'SHARED_NO_READ_WRITE')
    JOIN performance_schema.threads holder ON holder.thread_id = held.owner_thread_id
    WHERE waiting.processlist_id = %s
    ORDER BY held.lock_status, holder.processlist_id
"""
_HOW_TO_NAME_IT = (
    "SHOW FULL PROCESSLIST lists the sessions, KILL ends one; the session is named here if the server has "
    "performance_schema with the instrument wait/lock/metadata/sql/mdl, and this user may read its tables"
)


def waits_for(cursor: Any, thread: int, *, discreet: bool) -> str:
    """Return what the statement of connection ``thread`` waits for. ``discreet``: without the text of statements."""
    cursor.execute(_STATE, [thread])
    found = cursor.fetchone()
    if found is None:
        return "it has ended the connection"
    state = str(found[0] or "")
    if "lock" not in state.lower():
        return f"it is executing the statement{f' ({state})' if state else ''}"
    holder = _holder(cursor, thread)
    if holder is None:
        return f"it waits for a lock ({state}) → {_HOW_TO_NAME_IT}"
    process, user, host, program, pending, query = holder
    who = f"connection {process} (user {user}, host {host}, program '{program}')"
    text = f"it waits for a lock ({state}) that {who} {'waits for, too' if pending else 'holds'}"
    statement = f"; last statement: {query}" if query and not discreet else ""
    return f"{text}{statement} → end that statement or transaction, or run: KILL {process}"


def _holder(cursor: Any, thread: int) -> Any:
    try:
        cursor.execute(_HOLDERS, [thread])
    except (pymysql.err.OperationalError, pymysql.err.ProgrammingError):
        return None  # the tables are missing, or the user may not read them
    return cursor.fetchone()
