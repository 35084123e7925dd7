"""``headrace users`` writes credentials that can log in, and stores no secrets."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli import users
from headrace.errors import HeadraceError
from headrace.rest.passwords import is_password, is_token
from headrace.rest.users_file import read_users


def run(*arguments: str, stdin: str = "") -> Any:
    return CliRunner().invoke(users.app, list(arguments), input=stdin)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "users")


def test_a_password_is_stored_as_a_hash_readable_by_the_owner_only(file: str) -> None:
    assert run("add", file, "alice", "--role", "admin", "--password-stdin", stdin="correct horse\n").exit_code == 0
    (entry,) = read_users(Path(file))
    assert (entry.name, entry.role.word) == ("alice", "admin")
    assert is_password("correct horse", entry.credential)
    assert "correct" not in Path(file).read_text()
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600


def test_a_token_is_printed_once_and_written_as_a_hash(file: str) -> None:
    ran = run("add", file, "prometheus", "--role", "viewer", "--token")
    token = ran.stdout.strip()
    (entry,) = read_users(Path(file))
    assert is_token(token, entry.credential)
    assert token not in Path(file).read_text()


def test_a_new_password_replaces_the_old_one_and_comments_stay(file: str) -> None:
    Path(file).write_text("# ours\nbob viewer proxy\n")
    for password in ("first password", "second password"):
        run("add", file, "alice", "--role", "admin", "--password-stdin", stdin=password)
    bob, alice = read_users(Path(file))
    assert bob.name == "bob"
    assert is_password("second password", alice.credential)
    assert Path(file).read_text().startswith("# ours\n")


def test_certificates_and_users_of_a_proxy_are_added_and_listed(file: str) -> None:
    run("add", file, "deploy", "--role", "operator", "--certificate", "CN=deploy, O=Acme")
    run("add", file, "bob", "--role", "viewer", "--proxy")
    shown = run("list", file).stdout
    assert "certificate:CN=deploy, O=Acme" in shown
    assert "proxy" in shown
    assert "operator" in run("list", file, "--json").stdout


def test_a_removed_user_has_no_lines(file: str) -> None:
    run("add", file, "bob", "--role", "viewer", "--proxy")
    run("add", file, "bob", "--role", "viewer", "--token")
    assert run("remove", file, "bob").exit_code == 0
    assert read_users(Path(file)) == []


@pytest.mark.parametrize(
    ("arguments", "stdin", "code"),
    [
        (("add", "alice", "--role", "admin", "--password-stdin"), "short", "cli.bad_password"),
        (("add", "alice", "--role", "admin"), "", "cli.no_terminal"),
        (("add", "alice", "--role", "admin", "--token", "--proxy"), "", "cli.conflicting_options"),
        (("add", "a:b", "--role", "admin", "--proxy"), "", "auth.invalid_users_file"),
        (("add", "bob", "--role", "admin", "--proxy"), "", "auth.invalid_users_file"),  # is a viewer already
        (("remove", "mallory"), "", "auth.unknown_user"),
    ],
)
def test_an_invalid_change_is_refused_and_changes_nothing(
    file: str, arguments: tuple[str, ...], stdin: str, code: str
) -> None:
    Path(file).write_text("bob viewer proxy\n")
    error = run(arguments[0], file, *arguments[1:], stdin=stdin).exception
    assert isinstance(error, HeadraceError)
    assert error.code == code
    assert Path(file).read_text() == "bob viewer proxy\n"


def test_a_missing_file_is_reported_with_the_command_that_creates_it(file: str) -> None:
    error = run("list", file).exception
    assert error.code == "auth.users_file_missing"
    assert f"headrace users add {file}" in str(error)
