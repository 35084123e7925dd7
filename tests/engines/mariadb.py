"""A real MariaDB from the system's package, on TCP with a user and a password."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pymysql

from headrace.embedded.engine import Engine
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import HOST
from headrace.errors import InfrastructureError
from tests.engines.canaries import DATABASE_PASSWORD

USER = DATABASE = "headrace"
# Debian installs servers in folders that only root's PATH has.
_PLACES = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
_PROGRAMS = ("mariadbd", "mariadb-install-db", "my_print_defaults")
_FIRST_SQL = f"""\
CREATE DATABASE IF NOT EXISTS {DATABASE};
CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{DATABASE_PASSWORD}';
GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'%' WITH GRANT OPTION;
"""


def missing_program() -> str | None:
    """Return the first program of MariaDB's server that is not installed; None when all are."""
    return next((name for name in _PROGRAMS if shutil.which(name, path=_PLACES) is None), None)


class MariaDb(Engine):
    """One MariaDB server. ``settings`` are its options without the dashes: ``{"max-connections": 20}``.

    Raises InfrastructureError ``mariadb.not_installed`` from ``start`` when the server is not on this machine.
    """

    name = "mariadb"
    title = "MariaDB"
    stop_grace = 20.0

    def __init__(
        self, folder: Path, *, port: int | None = None, settings: Mapping[str, str | int] | None = None
    ) -> None:
        super().__init__(folder, port)
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """SQLAlchemy URL with PyMySQL; the user has all privileges."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL with another database."""
        return f"mysql+pymysql://{USER}:{DATABASE_PASSWORD}@{HOST}:{self.port}/{database}"

    @cached_property
    def _version(self) -> str:
        said = subprocess.run([_program("mariadbd"), "--version"], capture_output=True, text=True, check=True).stdout
        found = re.search(r"\d+(?:\.\d+)+", said)
        return found.group() if found else said.strip()

    @property
    def version(self) -> str:
        return self._version

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def data_path(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        (self.folder / "first.sql").write_text(_FIRST_SQL, encoding="utf-8")
        if not self.data_path.exists():
            self._init()

    def _init(self) -> None:
        """Create the data in a temporary folder and rename it: an interrupted start leaves no partial data."""
        made = self.folder / "data.new"
        shutil.rmtree(made, ignore_errors=True)
        done = subprocess.run(
            [
                _program("mariadb-install-db"), "--no-defaults", f"--datadir={made}", "--skip-test-db",
                "--auth-root-authentication-method=normal", "--innodb-log-file-size=16M", *_as_root(),
            ],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            raise InfrastructureError(
                f"MariaDB's data folder cannot be made:\n{done.stdout}{done.stderr}", code="embedded.start"
            )
        made.rename(self.data_path)

    def command(self) -> list[str]:
        settings: dict[str, str | int] = {
            "datadir": str(self.data_path),
            "bind-address": HOST,
            "port": self.port,
            "socket": "server.sock",  # relative to the data folder: the path of a socket is limited to about 100 bytes
            "pid-file": "server.pid",
            "init-file": str(self.folder / "first.sql"),
            "character-set-server": "utf8mb4",
            "innodb-log-file-size": "16M",
            "innodb-buffer-pool-size": "64M",
            **self._settings,
        }
        options = [f"--{key}={value}" for key, value in settings.items()]
        return [_program("mariadbd"), "--no-defaults", "--skip-name-resolve", *options, *_as_root()]

    def answers(self, process: SupervisedProcess) -> bool:
        try:
            connection = pymysql.connect(
                host=HOST, port=self.port, user=USER, password=DATABASE_PASSWORD, database=DATABASE, connect_timeout=5
            )
        except pymysql.MySQLError:
            return False  # not yet
        connection.close()
        return True


def _program(name: str) -> str:
    found = shutil.which(name, path=_PLACES)
    if found is None:
        raise InfrastructureError(
            f"MariaDB's program {name} is not installed",
            code="mariadb.not_installed",
            hint="apt-get install mariadb-server",
        )
    return found


def _as_root() -> list[str]:
    """Return the option without which MariaDB refuses to run as root."""
    return ["--user=root"] if os.geteuid() == 0 else []
