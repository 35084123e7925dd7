"""``headrace users``: writes the file of users of a worker's REST API (``rest.users.file``)."""

from __future__ import annotations

import enum
import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.output import JsonFlag, err, out, print_json, print_table
from headrace.errors import ConfigError, NotFoundError
from headrace.rest import passwords
from headrace.rest.access import Role
from headrace.rest.users_file import CERTIFICATE, PROXY, UserEntry, by_name, parse_users, read_users, write_users

app = typer.Typer(name="users", help="Write the file of users of a worker's REST API.", no_args_is_help=True)

_SHORTEST_PASSWORD = 8
_HEADER = "# Users of the REST API (rest.users.file): name, role, credential. Written by `headrace users`."

UsersFile = Annotated[Path, typer.Argument(metavar="FILE", help="The file; it is created when it does not exist.")]
UserName = Annotated[str, typer.Argument(metavar="NAME", help="User.", show_default=False)]


class RoleName(enum.StrEnum):
    """Roles on the command line."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


@app.command("add")
def add(
    file: UsersFile,
    name: UserName,
    role: Annotated[RoleName, typer.Option("--role", help="What the user may do.")],
    token: Annotated[bool, typer.Option("--token", help="Create a token, and print it once.")] = False,
    certificate: Annotated[
        str | None, typer.Option("--certificate", metavar="SUBJECT", help="Subject of a client certificate.")
    ] = None,
    proxy: Annotated[bool, typer.Option("--proxy", help="The trusted proxy authenticates this user.")] = False,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin, instead of requesting it.")
    ] = False,
) -> None:
    """Add a user, or replace the user's password. Running workers read the file again.

      headrace users add users alice --role admin

      headrace users add users prometheus --role viewer --token

    Roles: viewer (status and metrics), operator (also configurations, pause, restart, retry), admin (everything).
    """
    if sum((token, certificate is not None, proxy, password_stdin)) > 1:
        raise ConfigError(
            "a user is added with one credential at a time", code="cli.conflicting_options", hint="remove an option"
        )
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else [_HEADER]
    made = ""
    if token:
        made = passwords.new_token()
        credential = passwords.hash_token(made)
    elif certificate is not None:
        credential = f"{CERTIFICATE}:{certificate.strip()}"
    elif proxy:
        credential = PROXY
    else:
        credential = passwords.hash_password(_password(stdin=password_stdin))
        lines = [line for line in lines if not _is_entry(line, name, passwords.PASSWORD)]
    entry = UserEntry(name, Role[role.name], credential)
    parse_users("\n".join([*lines, str(entry)]), str(file))  # what is written can be read
    write_users(file, [*lines, str(entry)])
    err.print(f"{name} may log in as {role.value} ({entry.kind if made or entry.kind != 'scrypt' else 'password'})")
    if made:
        out.print(made, markup=False, soft_wrap=True)


@app.command("list")
def list_users(file: UsersFile, json: JsonFlag = False) -> None:
    """List users, their roles and kinds of credentials."""
    entries = read_users(file)
    if json:
        print_json([{"name": item.name, "role": item.role.word, "credential": _kind(item)} for item in entries])
        return
    print_table(("user", "role", "credential"), [(item.name, item.role.word, _kind(item)) for item in entries])


@app.command("remove")
def remove(file: UsersFile, name: UserName) -> None:
    """Remove a user. Running workers refuse the user from the next request on."""
    if not by_name(read_users(file), name):
        raise NotFoundError(f"there is no user {name} in {file}", code="auth.unknown_user", hint="headrace users list")
    lines = file.read_text(encoding="utf-8").splitlines()
    write_users(file, [line for line in lines if not _is_entry(line, name)])
    err.print(f"{name} was removed")


def _kind(entry: UserEntry) -> str:
    if entry.kind == CERTIFICATE:
        return entry.credential
    return "password" if entry.kind == passwords.PASSWORD else entry.kind


def _is_entry(line: str, name: str, kind: str = "") -> bool:
    fields = line.split(maxsplit=2)
    return len(fields) == 3 and fields[0] == name and fields[2].startswith(kind)


def _password(*, stdin: bool) -> str:
    if stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the passwords differ", code="cli.bad_password", hint="run the command again")
    else:
        text = "there is no terminal to ask for the password"
        raise ConfigError(text, code="cli.no_terminal", hint="use --password-stdin, or --token")
    if len(password) < _SHORTEST_PASSWORD:
        text = f"the password has fewer than {_SHORTEST_PASSWORD} characters"
        raise ConfigError(text, code="cli.bad_password", hint="use a longer one, or --token")
    return password
