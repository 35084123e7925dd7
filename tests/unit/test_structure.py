"""Rules for names, modules and tests that no linter checks."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "headrace",
    "headrace_sources",
    "headrace_transforms",
    "headrace_streams",
    "headrace_sinks",
    "demo",
    "benchmarks",
    "scripts",
)
PRODUCT = ("connectors", "sources", "transforms", "streams", "sinks", "demo", "benchmarks", "scripts")
RETIRED = re.compile(r"\b(mend(s|ed|ing)?|anew|whoever|nobody|somebody)\b", re.IGNORECASE)

# Files in which "nobody" is the user of that name.
USER_NOBODY = {
    "connectors/headrace/embedded/postgres.py",
    "docs/embedded-stack.md",
    "tests/integration/test_embedded_stack.py",
    "tests/system/test_bad_engines.py",
    "tests/unit/embedded/test_optional_dependencies.py",
}
# Public in spite of the underscore: of named tuples, and of SQLAlchemy's rows. So are confluent-kafka's error codes
# (KafkaError._TRANSPORT), which it documents.
PUBLIC = {"_asdict", "_fields", "_make", "_replace", "_mapping"}


def files(*folders: str, suffix: str = ".py") -> list[Path]:
    return [file for folder in folders for file in sorted((ROOT / folder).rglob(f"*{suffix}"))]


def place(file: Path, line: int | None = None) -> str:
    path = file.relative_to(ROOT).as_posix()
    return path if line is None else f"{path}:{line}"


def trees_with(pattern: str) -> Iterator[tuple[Path, ast.Module]]:
    """Yield the test files in which the pattern occurs. Parsing all of them takes seconds."""
    for file in files("tests"):
        text = file.read_text(encoding="utf-8")
        if re.search(pattern, text):
            yield file, ast.parse(text)


def classes(file: Path, name: str) -> list[ast.ClassDef]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name]


def test_class_names_are_unique_in_the_product() -> None:
    candidates = defaultdict(list)  # also of docstrings; parsing every file takes seconds
    for file in files(*PRODUCT):
        for name in re.findall(r"^\s*class (\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            candidates[name].append(file)
    repeated = {name: found for name, found in candidates.items() if len(found) > 1}
    places = {
        name: [place(file) for file in set(found) for _ in classes(file, name)] for name, found in repeated.items()
    }

    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_no_two_modules_of_a_package_differ_by_an_s() -> None:
    modules = {file.with_suffix("") for file in files(*PRODUCT)}

    pairs = {
        f"{module.parent.name}/{module.name}" for module in modules if module.with_name(f"{module.name}s") in modules
    }
    assert pairs == set()


def test_no_module_has_more_than_500_lines() -> None:
    long = {
        place(file) for file in files(*PRODUCT, "tests") if len(file.read_text(encoding="utf-8").splitlines()) > 500
    }
    assert long == set()


def private_attributes(module: ast.Module) -> Iterator[int]:
    """Yield the lines on which a private attribute of another object is used."""
    for node in ast.walk(module):
        if not isinstance(node, ast.Attribute) or not re.match(r"_[^_]", node.attr) or node.attr in PUBLIC:
            continue
        error_code = ast.unparse(node.value) == "KafkaError" and node.attr.isupper()
        of_own_class = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        of_super = isinstance(node.value, ast.Call) and ast.unparse(node.value) == "super()"
        if not error_code and not of_own_class and not of_super:
            yield node.lineno


def patched_internals(module: ast.Module) -> Iterator[int]:
    """Yield the lines on which a test replaces something that is not of another package."""
    foreign = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names = [(alias.name, alias.asname or alias.name.partition(".")[0]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "", alias.asname or alias.name) for alias in node.names]
        else:
            continue
        foreign |= {bound for source, bound in names if source.partition(".")[0] not in (*PACKAGES, "tests")}
    for node in ast.walk(module):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("monkeypatch.setattr", "patch.object", "patch"):
            target = node.args[0]
            if isinstance(target, ast.Constant):
                ours = str(target.value).partition(".")[0] in PACKAGES
            else:
                ours = ast.unparse(target).partition(".")[0] not in foreign
            if ours:
                yield node.lineno


def test_tests_use_no_private_attributes_of_other_objects() -> None:
    found = [place(file, line) for file, tree in trees_with(r"\._[^_]") for line in private_attributes(tree)]
    assert found == []


def test_tests_patch_no_internals() -> None:
    found = [place(file, line) for file, tree in trees_with("patch") for line in patched_internals(tree)]
    assert found == []


def retired_words(texts: Iterable[Path]) -> list[str]:
    return [
        f"{place(file, number)}: {line.strip()}"
        for file in texts
        if file != Path(__file__) and place(file) not in USER_NOBODY
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
        if RETIRED.search(line)
    ]


def test_retired_words_are_not_used() -> None:
    prose = [*files("docs", "config", suffix=".md"), *ROOT.glob("*.md")]
    assert retired_words([*files(*PRODUCT, "tests"), *prose]) == []


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("task._offsets.clear()", [1]),
        ("self.task._offsets", [1]),
        ("class A:\n  def f(self):\n    self._x = super()._x", []),
        ("row._asdict()\nx.__class__", []),
        ("KafkaError._TRANSPORT\nKafkaError._state", [2]),
    ],
)
def test_private_attributes_are_detected(code: str, lines: list[int]) -> None:
    assert list(private_attributes(ast.parse(code))) == lines


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("from headrace.embedded import jars\nmonkeypatch.setattr(jars, 'fetch', None)", [2]),
        ("monkeypatch.setattr('headrace.app.sleep', None)", [1]),
        ("def test(task):\n  monkeypatch.setattr(task, 'poll', None)", [2]),
        ("import sys\nmonkeypatch.setattr(sys.stderr, 'isatty', None)", []),
        ("import importlib.util\nmonkeypatch.setattr(importlib.util, 'find_spec', None)", []),
        ("monkeypatch.setattr('os.geteuid', None)", []),
        ("from headrace import retries\nwith patch.object(retries, 'retry'):\n  pass", [2]),
        ("monkeypatch.setenv('A', 'b')", []),
    ],
)
def test_patched_internals_are_detected(code: str, lines: list[int]) -> None:
    assert list(patched_internals(ast.parse(code))) == lines
