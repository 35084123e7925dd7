"""Faults of databases and of what a source needs."""

from __future__ import annotations

import resource
import sys
import uuid
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from headrace.testing.waiting import eventually
from tests.engines.addresses import libpq_url
from tests.engines.http import HTTP
from tests.faults.case import Case, Cases
from tests.faults.table import SEEN
from tests.faults.world import HEALED, World

SET_CLOCK = Path(__file__).with_name("set_clock.py")


def password(case: Case, world: World) -> None:
    role, secrets = f"r{uuid.uuid4().hex[:8]}", world.folder / "secrets.properties"
    table = world.table()
    world.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'first'; GRANT SELECT ON {table} TO {role}")
    case.cleanup.callback(lambda: world.sql(f"DROP OWNED BY {role}; DROP ROLE {role}"))
    case.cleanup.callback(world.restore)
    secrets.write_text("password=first\n")
    url = make_url(world.source_config(table)["connection.url"]).set(username=None, password=None)
    keys = {"connection.url": str(url), "connection.user": role, "connection.password": f"${{file:{secrets}:password}}"}
    name = world.create(f"source-{table}", world.source_config(table) | keys)
    world.sql(f"ALTER ROLE {role} PASSWORD 'second'")
    world.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
    case.says(name)
    secrets.write_text("password=second\n")
    case.heals(name)


def database_down(case: Case, world: World) -> None:
    name = world.source(world.table())
    world.sql_proxy.refuse()
    case.says(name)
    world.sql_proxy.restore()
    case.heals(name)


def database_black_hole(case: Case, world: World) -> None:
    name = world.source(world.table())
    world.sql_proxy.blackhole()
    case.says(name)
    world.sql_proxy.restore()
    case.heals(name)


def locked_table(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    with psycopg.connect(libpq_url(world.database), application_name="nightly") as holder:
        holder.execute(f"LOCK TABLE {table}")
        said = case.says(name)
        assert f"process {holder.info.backend_pid} " in said
        assert "application 'nightly'" in said
    case.heals(name)


def dropped_table(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"DROP TABLE {table}")
    case.says(name)
    world.sql(f"CREATE TABLE {table} (id serial PRIMARY KEY, note text)")
    case.heals(name)


def renamed_column(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"ALTER TABLE {table} RENAME COLUMN id TO idd")
    case.says(name)
    world.sql(f"ALTER TABLE {table} RENAME COLUMN idd TO id")
    case.heals(name)


def renamed_other_column(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    world.sql(f"ALTER TABLE {table} RENAME COLUMN note TO remark; INSERT INTO {table} (remark) VALUES ('x')")
    said = case.says(name)
    assert f"note of table public.{table} (new: remark)" in said
    answer = HTTP.post(f"{world.worker.url}/v1/connectors/{name}/acknowledge", timeout=30)
    assert answer.status_code == 200, answer.text
    assert "sql.columns_gone" not in world.said(name)


def full_disk(case: Case, world: World) -> None:
    table = world.table()
    worker = world.process("disk")
    case.cleanup.callback(lambda: worker.process.poll() is None and worker.kill())
    # The limit is one of all files of the process: that of the offsets must be the largest.
    offsets = worker.folder / "offsets.jsonl"
    offsets.write_text("".join(f'["[\\"other\\",{{\\"n\\":{n}}}]",{{"n":{n}}}]\n' for n in range(9_000)))
    worker.write(table, world.source_config(table))
    worker.start()
    stored = f"/connectors/{table}/offsets"
    eventually(lambda: worker.get(stored)["offsets"] and world.is_well(table, worker), HEALED)
    _, most = resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (offsets.stat().st_size, most))
    world.sql(f"INSERT INTO {table} (note) VALUES ('more')")
    case.says(table, worker)
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (most, most))
    case.heals(table, worker)
    eventually(lambda: worker.get(stored)["offsets"][0]["offset"]["incrementing"] == 2, HEALED)
    assert worker.stop() == 0


def set_clock(case: Case, world: World) -> None:
    table, clock = world.table(), world.folder / "clock"
    worker = world.process("clock")
    worker.program, worker.environment = (sys.executable, SET_CLOCK), {"HEADRACE_TEST_CLOCK": str(clock)}
    clock.write_text("0")
    worker.write(table, world.source_config(table))
    worker.start()
    case.cleanup.callback(lambda: worker.process.poll() is None and worker.kill())
    stored = f"/connectors/{table}/offsets"
    eventually(lambda: worker.get(stored)["offsets"] and world.is_well(table, worker), HEALED)
    replacement = clock.with_suffix(".new")
    replacement.write_text("-3600")
    replacement.rename(clock)
    world.sql(f"INSERT INTO {table} (note) VALUES ('more')")
    case.says(table, worker)
    eventually(lambda: worker.get(stored)["offsets"][0]["offset"]["incrementing"] == 2, SEEN)
    case.heals(table, worker)
    assert worker.stop() == 0


def long_transaction(case: Case, world: World) -> None:
    table = world.table()
    name = world.source(table)
    with psycopg.connect(libpq_url(world.database)) as writer:
        writer.execute(f"INSERT INTO {table} (note) VALUES ('late')")
        world.sql(f"INSERT INTO {table} (note) VALUES ('early')")
        assert f"process {writer.info.backend_pid} " in case.says(name)
    case.heals(name)


CASES: Cases = {
    "1": password,
    "2": database_down,
    "3": database_black_hole,
    "4": locked_table,
    "5": dropped_table,
    "6": renamed_column,
    "6b": renamed_other_column,
    "8": full_disk,
    "24": set_clock,
    "28": long_transaction,
}
