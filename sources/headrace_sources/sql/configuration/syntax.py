"""Values with a syntax of their own: queries, regular expressions over table names, column mappings, time zones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from headrace import Finding, compile_pattern

# Names of SQLAlchemy's backends to those of sqlglot's dialects.
_DIALECTS = {
    "postgresql": "postgres",
    "mysql": "mysql",
    "mariadb": "mysql",
    "sqlite": "sqlite",
    "oracle": "oracle",
    "mssql": "tsql",
}
_LIMITS = re.compile(r"\b(limit|top|rownum|fetch\s+(first|next))\b", re.IGNORECASE)
_PLAIN_NAME = re.compile(r"[^\W\d][\w$#]*")
_UTC = frozenset({"UTC", "Z", "GMT", "Etc/UTC"})


def query_findings(query: str, backend: str, key: str, *, incremental: bool) -> Iterable[Finding]:
    """Yield the problems of a query. ``incremental``: it is wrapped in a statement with bounds and an order."""
    import sqlglot  # imported here, because it loads slowly and tables do not need it
    from sqlglot import expressions as ast

    if not re.match(r"(\s|\(|--[^\n]*\n|/\*.*?\*/)*(select|with)\b", query, re.IGNORECASE | re.DOTALL):
        yield Finding("sql.not_a_select", "query must be a SELECT", key, "only reading is possible")
        return
    try:
        trees = [tree for tree in sqlglot.parse(query, read=_DIALECTS.get(backend)) if tree is not None]
    except sqlglot.errors.SqlglotError:
        # This parser does not know the whole syntax of every database: the database itself decides, during check.
        if ";" in query.rstrip().rstrip(";"):
            yield Finding("sql.not_a_select", "query must be a single SELECT", key, "remove the semicolon")
        return
    except RecursionError:
        yield Finding("sql.not_a_select", "query is nested too deeply", key, "create a view, and read that")
        return
    if len(trees) != 1:
        text = f"query must be a single SELECT, and these are {len(trees)} statements"
        yield Finding("sql.not_a_select", text, key, "remove the semicolon and what follows it")
        return
    [tree] = trees
    writing = tree.find(ast.Insert, ast.Update, ast.Delete, ast.Merge, ast.Into, ast.Command)
    if not isinstance(tree, ast.Query) or writing is not None:
        keyword = (writing or tree).key.upper()
        yield Finding("sql.not_a_select", f"query must only read, and this has {keyword}", key, "write a SELECT")
        return
    names = [_result_name(item, backend) for item in tree.selects if not item.is_star]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        text = f"the query's result has more than one column {', '.join(map(repr, twice))}"
        hint = "give each column a name of its own: SELECT a.id AS a_id, b.id AS b_id …"
        yield Finding("sql.duplicate_column", text, key, hint)
    if incremental and (tree.args.get("limit") or tree.args.get("offset")):
        text = "query limits its rows: those behind the limit would never be read"
        yield Finding("sql.query_limit", text, key, "remove the limit; results are streamed, however large they are")
    if tree.args.get("locks"):
        yield Finding("sql.query_locks", "query locks the rows it reads", key, "remove FOR UPDATE", severity="warning")


def _result_name(selected: Any, backend: str) -> str:
    """Return the name of a result's column, folded as the database does; one without a name equals no other."""
    identifier = selected.args.get("alias") or selected.this
    name = str(selected.output_name) or f"column {id(selected)}"
    exact = backend in ("postgresql", "oracle") and getattr(identifier, "args", {}).get("quoted")
    return name if exact else name.upper() if backend == "oracle" else name.lower()


def limits_rows(suffix: str) -> bool:
    """Return whether a suffix limits the rows of a result."""
    return _LIMITS.search(suffix) is not None


def inner_text(query: str, backend: str) -> str:
    """Return the query without the semicolons and comments at its end, which are invalid within parentheses."""
    import sqlglot

    try:
        tokens = sqlglot.tokenize(query, read=_DIALECTS.get(backend))
    except sqlglot.errors.SqlglotError:
        return query.strip().rstrip("; \n\t")
    while tokens and tokens[-1].text == ";":
        tokens.pop()
    return query[: tokens[-1].end + 1].strip() if tokens else ""


def is_plain_name(name: str) -> bool:
    """Return whether a name is an identifier that needs no quotes."""
    return _PLAIN_NAME.fullmatch(name) is not None


class Entry(NamedTuple):
    """One entry of a column mapping: ``regex:column`` or ``regex:[column|column]``."""

    pattern: str
    columns: tuple[str, ...]


def pattern_error(pattern: str) -> str:
    """Return why ``pattern`` is not a regular expression; empty = it is one."""
    try:
        compile_pattern(pattern)
    except ValueError as error:
        return str(error)
    return ""


def entry_error(text: str) -> str:
    """Return why ``text`` is not an entry of a column mapping; empty = it is one."""
    pattern, colon, _ = text.rpartition(":")
    if not colon or not pattern:
        return "it has no colon between the expression and the column"
    if not all(entry(text).columns):
        return "it names no column"
    return pattern_error(pattern)


def entry(text: str) -> Entry:
    """Parse an entry at its last colon, because the expression may contain colons."""
    pattern, _, columns = text.rpartition(":")
    inner = columns.strip().removeprefix("[").removesuffix("]")
    return Entry(pattern.strip(), tuple(column.strip() for column in inner.split("|")))


def matches(patterns: Iterable[str], name: str) -> bool:
    """Return whether one of the expressions matches the whole name."""
    return any(compile_pattern(pattern).fullmatch(name) for pattern in patterns)


def mapped(entries: Sequence[str], name: str) -> list[Entry]:
    """Return the entries whose expression matches a table."""
    return [found for found in map(entry, entries) if compile_pattern(found.pattern).fullmatch(name)]


def like(pattern: str | None, name: str) -> bool:
    """Return whether ``name`` matches a pattern of SQL LIKE; None matches everything."""
    if pattern is None:
        return True
    parts = {"%": ".*", "_": "."}
    text = "".join(parts.get(char, re.escape(char)) for char in pattern)
    return compile_pattern(f"(?s){text}").fullmatch(name) is not None


def find_zone(name: str) -> tzinfo | None:
    """Return a time zone by name, None if unknown. UTC is always :data:`datetime.UTC`, which is the fastest."""
    if name in _UTC:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a missing zone, a path that leads elsewhere, a directory
        return None


def nearest_zones(name: str) -> str:
    """Return a hint for a name that is not a time zone."""
    close = difflib.get_close_matches(name, available_timezones(), n=2, cutoff=0.6)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else "for example UTC, Europe/Berlin"
