"""Translates a SELECT to steps: joins and lookups, filter, window, filter, select.

The result is what the user would have written in YAML, so that both have one planner, and equal plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from headrace import nearest
from headrace_streams.expressions.positions import offset_in
from headrace_streams.operators.aggregates import FUNCTIONS
from headrace_streams.operators.grouping import WINDOW_COLUMNS
from headrace_streams.statements.text import (
    SESSION,
    Statement,
    StatementError,
    Within,
    duration_of,
    parse_statement,
)

_SUPPORTED = ("expressions", "from_", "joins", "where", "group", "having")
_CLAUSES = {
    "with_": ("WITH", "write a step for each of its queries"),
    "distinct": ("DISTINCT", "use a step with deduplicate"),
    "order": ("ORDER BY", "a stream has the order of its records; use a step with top"),
    "limit": ("LIMIT", "use a step with top"),
    "offset": ("OFFSET", "remove it"),
    "qualify": ("QUALIFY", "use a step with top"),
    "windows": ("WINDOW", "write GROUP BY …, TUMBLE('1m', GRACE => '10s')"),
    "into": ("INTO", "outputs name the topics"),
    "laterals": ("LATERAL VIEW", "use a step with flat_map"),
}
_WINDOWS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "TUMBLE": ("tumbling", ()),
    "HOP": ("hopping", ("advance",)),
    "SLIDE": ("sliding", ()),
    SESSION: ("session", ()),
}
"""Function of GROUP BY → the key of the window's size, and the arguments after it."""
_ROW_KEY = "ROWKEY"
_NO_NAME = "write {} AS <name>"


@dataclass
class Translation:
    """Steps as flat properties, without ``steps.``, and the offset in the statement of each."""

    properties: dict[str, str] = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)


def translate(step: str, text: str, tables: Mapping[str, str | None]) -> Translation:
    """Return the steps of a statement; the last one is called ``step``. Raise StatementError.

    ``tables``: the global tables, each with its key column.
    """
    return _Translator(step, parse_statement(text), tables).translate()


@dataclass
class _Step:
    suffix: str
    keys: dict[str, str]
    offsets: dict[str, int]


class _Translator:
    def __init__(self, step: str, statement: Statement, tables: Mapping[str, str | None]) -> None:
        self._step = step
        self._statement = statement
        self._select = statement.select
        self._tables = tables
        self._steps: list[_Step] = []
        self._stream_names: set[str] = set()
        """Names whose columns are those of the records themselves."""
        self._columns: set[str] = set()
        """Names of joined tables and streams: each is a column."""

    def translate(self) -> Translation:
        self._refuse_clauses()
        source, offset = self._from()
        for number, join in enumerate(self._select.args.get("joins") or []):
            self._join(join, self._statement.within.get(number), source)
        where = self._select.args.get("where")
        if where is not None:
            self._refuse_aggregates(where.this, "WHERE")
            self._add("where", {"filter": self._sql(where.this)}, offset_in(where))
        if self._select.args.get("group") is not None:
            self._aggregate(self._select.args["group"])
        else:
            having = self._select.args.get("having")
            if having is not None:
                raise StatementError("HAVING needs GROUP BY", self._statement.offset_of("HAVING"), "write WHERE")
            self._project()
        if not self._steps:
            self._add("", {"merge": source}, offset)
        return self._chained(source, offset)

    def _chained(self, source: str, offset: int) -> Translation:
        made = Translation()
        used: dict[str, int] = {}
        for item in self._steps:
            if item is self._steps[-1]:
                name = self._step
            else:
                used[item.suffix] = used.get(item.suffix, 0) + 1
                number = f"-{used[item.suffix]}" if used[item.suffix] > 1 else ""
                name = f"{self._step}-{item.suffix}{number}"
            if "join.left" in item.keys:
                item.keys["join.left"] = source
            elif "merge" not in item.keys:
                made.properties[f"{name}.from"] = source
                made.offsets[f"{name}.from"] = offset
            made.properties |= {f"{name}.{key}": text for key, text in item.keys.items()}
            made.offsets |= {f"{name}.{key}": item.offsets[key] for key in item.keys}
            made.offsets.setdefault(name, min(item.offsets.values(), default=0))
            source = name
        return made

    def _add(self, suffix: str, keys: dict[str, str], offset: int, offsets: Mapping[str, int] | None = None) -> None:
        places = {key: (offsets or {}).get(key, offset) for key in keys}
        self._steps.append(_Step(suffix, keys, places))

    # FROM and JOIN

    def _refuse_clauses(self) -> None:
        for name, value in self._select.args.items():
            if not value or name in _SUPPORTED:
                continue
            word, hint = _CLAUSES.get(name, (name.strip("_").upper(), "remove it"))
            raise StatementError(f"{word} is not supported", self._statement.offset_of(word), hint)

    def _from(self) -> tuple[str, int]:
        clause = self._select.args.get("from_")
        if clause is None:
            raise StatementError("the statement has no FROM", 0, "name the stream to read", "stream.syntax")
        name, alias = self._table(clause.this)
        if name in self._tables:
            text = f"'{name}' is a table: FROM needs a stream"
            raise StatementError(text, offset_in(clause), "read the stream, and JOIN the table")
        self._stream_names |= {name, alias}
        return name, offset_in(clause)

    def _table(self, node: exp.Expression) -> tuple[str, str]:
        """Return name and alias of a stream or table."""
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            what = "a subquery" if isinstance(node, exp.Subquery) else f"'{node.sql()}'"
            hint = "write a step for it, and name that step" if isinstance(node, exp.Subquery) else "name a stream"
            raise StatementError(f"{what} in FROM is not supported", offset_in(node), hint)
        alias = node.args.get("alias")
        other = [name for name, value in node.args.items() if value and name not in ("this", "alias")]
        if other or (alias is not None and alias.args.get("columns")):
            raise StatementError(f"'{node.sql()}' is not supported", offset_in(node), "name a stream, and an alias")
        return str(node.name), str(alias.name if alias is not None else node.name)

    def _join(self, join: exp.Join, within: Within | None, first: str) -> None:
        name, alias = self._table(join.this)
        offset = offset_in(join.this)
        kind = " ".join(str(join.args[part]) for part in ("method", "side", "kind") if join.args.get(part)).upper()
        if kind.removesuffix("OUTER").strip() not in ("", "INNER", "LEFT"):
            raise StatementError(f"{kind} JOIN is not supported", offset, "write JOIN or LEFT JOIN")
        if join.args.get("using"):
            raise StatementError("USING is not supported", offset, "write ON a.x = b.x")
        condition = join.args.get("on")
        if condition is None:
            raise StatementError(f"the join with '{name}' has no ON", offset, "write ON a.x = b.x")
        if alias in self._stream_names | self._columns:
            raise StatementError(f"the name '{alias}' is used twice", offset, "write AS <name>")
        left_join = kind.startswith("LEFT")
        if name in self._tables:
            if within is not None:
                text = f"'{name}' is a table: WITHIN belongs to joins of streams"
                raise StatementError(text, within.offset, "remove WITHIN")
            self._lookup(name, alias, condition, offset, left_join=left_join)
        else:
            self._stream_join(name, alias, condition, within, offset, left_join=left_join)
        self._columns.add(alias)

    def _lookup(self, name: str, alias: str, condition: exp.Expression, offset: int, *, left_join: bool) -> None:
        pairs = self._pairs(condition, alias)
        key = self._tables[name] or _ROW_KEY
        if len(pairs) != 1 or not isinstance(pairs[0][1], exp.Column) or pairs[0][1].name.upper() != key.upper():
            hint = f"write ON {alias}.{key} = <expression>"
            if key == _ROW_KEY:
                hint += f"; {_ROW_KEY} is the record's key, since the table does not set 'key'"
            text = f"table '{name}' is read by its key, and by nothing else"
            raise StatementError(text, offset_in(condition, offset), hint)
        table = exp.to_identifier(name).sql()
        keys = {f"lookup.{alias}": f"{table}[{self._sql(pairs[0][0])}]"}
        if not left_join:
            keys["missing"] = "drop"
        self._add("lookup", keys, offset, {f"lookup.{alias}": offset_in(pairs[0][0], offset)})

    def _stream_join(
        self,
        name: str,
        alias: str,
        condition: exp.Expression,
        within: Within | None,
        offset: int,
        *,
        left_join: bool,
    ) -> None:
        if within is None:
            hint = "write WITHIN 24 HOURS GRACE PERIOD 10 MINUTES before ON"
            raise StatementError(f"the join with stream '{name}' has no WITHIN", offset, hint)
        if within.grace is None:
            text = f"the join with stream '{name}' has no GRACE PERIOD"
            raise StatementError(text, within.offset, "write how far a record may be behind: GRACE PERIOD 10 MINUTES")
        pairs = self._pairs(condition, alias)
        by = self._list([left for left, _ in pairs])
        right_by = self._list([right for _, right in pairs], alias)
        keys = {"join.left": "", "join.right": name, "join.by": by, "join.within": within.after}
        if left_join:
            keys["join.type"] = "left"
        if right_by != by:
            keys["join.right_by"] = right_by
        if within.before is not None:
            keys["join.before"] = within.before
        keys |= {"join.grace": within.grace, "join.as": alias}
        places = dict.fromkeys(("join.within", "join.before", "join.grace"), within.offset)
        places |= dict.fromkeys(("join.by", "join.right_by"), offset_in(condition, offset))
        self._add("join", keys, offset, places)

    def _pairs(self, condition: exp.Expression, alias: str) -> list[tuple[exp.Expression, exp.Expression]]:
        """Return the equations of ON: the expression of the left side, and that of ``alias``."""
        pairs = []
        for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
            found: Any = part.unnest()
            sides = [found.this, found.expression] if isinstance(found, exp.EQ) else []
            of_alias = [_names(side) == {alias} for side in sides]
            mixed = [alias in _names(side) for side in sides]
            if of_alias == [True, False] and not mixed[1]:
                pairs.append((sides[1], sides[0]))
            elif of_alias == [False, True] and not mixed[0]:
                pairs.append((sides[0], sides[1]))
            else:
                text = f"'{found.sql()}' in ON is not supported"
                hint = f"ON has equations between the left side and {alias}.<column>; put other conditions into WHERE"
                raise StatementError(text, offset_in(found), hint)
        return pairs

    def _list(self, nodes: list[exp.Expression], alias: str = "") -> str:
        """Return expressions as a list in which each has a name. ``alias``: of the stream whose columns they are."""
        written = []
        for number, node in enumerate(nodes):
            text = self._sql(node, alias)
            written.append(text if isinstance(node, exp.Column) else f"{text} AS key_{number + 1}")
        return ", ".join(written)

    # SELECT and GROUP BY

    def _project(self) -> None:
        star, named = self._items()
        for name, node in named.items():
            self._refuse_aggregates(node, f"column '{name}'")
        if star and not named:
            return
        word = "add" if star else "select"
        self._add_columns(word, {name: self._sql(node) for name, node in named.items()}, named)

    def _add_columns(self, word: str, texts: Mapping[str, str], nodes: Mapping[str, exp.Expression]) -> None:
        offsets = {f"{word}.{name}": offset_in(node) for name, node in nodes.items()}
        self._add("select", {f"{word}.{name}": text for name, text in texts.items()}, 0, offsets)

    def _items(self) -> tuple[bool, dict[str, exp.Expression]]:
        """Return whether the list has a ``*``, and the columns by their names."""
        star, named = False, {}
        for item in self._select.expressions:
            if isinstance(item, exp.Star) or (isinstance(item, exp.Column) and isinstance(item.this, exp.Star)):
                inner = item if isinstance(item, exp.Star) else item.this
                qualifier = item.table if isinstance(item, exp.Column) else ""
                if any(inner.args.values()) or (qualifier and qualifier not in self._stream_names):
                    hint = f"write {qualifier} AS <name>" if qualifier else "name the columns"
                    raise StatementError(f"'{item.sql()}' is not supported", offset_in(item), hint)
                star = True
                continue
            name = str(item.alias_or_name) if isinstance(item, (exp.Alias, exp.Column, exp.Dot)) else ""
            if not name:
                hint = _NO_NAME.format(item.sql())
                raise StatementError(f"'{item.sql()}' has no name", offset_in(item), hint, "stream.syntax")
            if name in named:
                text = f"column '{name}' is selected twice"
                raise StatementError(text, offset_in(item), "write AS <name>", "config.duplicate_name")
            named[name] = item.this if isinstance(item, exp.Alias) else item
        return star, named

    def _aggregate(self, group: exp.Group) -> None:
        star, named = self._items()
        if star:
            offset = self._statement.offset_of("*")
            raise StatementError("'*' with GROUP BY is not supported", offset, "name the columns")
        other = [name for name, value in group.args.items() if value and name != "expressions"]
        if other:
            word = other[0].upper()
            raise StatementError(f"{word} is not supported", self._statement.offset_of(word), "name the columns")
        windows = [node for node in group.expressions if _function(node) in _WINDOWS]
        if len(windows) != 1:
            offset = self._statement.offset_of("GROUP")
            hint = "write GROUP BY <columns>, TUMBLE('1m', GRACE => '10s'); also HOP, SLIDE and SESSION"
            raise StatementError(f"GROUP BY needs one window, and has {len(windows)}", offset, hint)
        keys, offsets = self._window(windows[0])
        groups: dict[str, exp.Expression] = {}
        for node in group.expressions:
            if node is not windows[0]:
                groups[self._group_name(node, named)] = node
        if not groups:
            offset = self._statement.offset_of("GROUP")
            raise StatementError("GROUP BY has no columns besides the window", offset, "group by at least one column")
        keys["window.by"] = ", ".join(self._named(name, node) for name, node in groups.items())
        offsets["window.by"] = min(offset_in(node) for node in groups.values())
        named = {name: self.without_stream_names(node) for name, node in named.items()}
        groups = {name: self.without_stream_names(node) for name, node in groups.items()}
        results = _Results(groups, self)
        columns = {name: results.rewritten(node, name) for name, node in named.items()}
        having = self._select.args.get("having")
        condition = results.rewritten(self.without_stream_names(having.this)) if having is not None else None
        for name, node in results.aggregates.items():
            keys[f"window.aggregate.{name}"] = self._sql(node)
            offsets[f"window.aggregate.{name}"] = offset_in(node)
        if not results.aggregates:
            offset = self._statement.offset_of("SELECT")
            raise StatementError("GROUP BY without an aggregate is not supported", offset, "add count(*) AS <name>")
        self._add("window", keys, offset_in(windows[0]), offsets)
        if condition is not None and having is not None:
            self._add("having", {"filter": condition.sql()}, offset_in(having))
        made = {*groups, *WINDOW_COLUMNS, *results.aggregates}
        if set(columns) != made or any(node.sql() != name for name, node in columns.items()):
            self._add_columns("select", {name: node.sql() for name, node in columns.items()}, named)

    def _window(self, node: exp.Expression) -> tuple[dict[str, str], dict[str, int]]:
        """Return the keys of a window function: sizes in their order, or as ``SIZE => '1h'``."""
        size, more = _WINDOWS[_function(node)]
        name = "SESSION" if _function(node) == SESSION else _function(node)
        known = {"SIZE": size, "GAP": size, **{item.upper(): item for item in more}, "GRACE": "grace", "EMIT": "emit"}
        order = [size, *more]
        keys: dict[str, str] = {}
        offsets: dict[str, int] = {}
        for number, argument in enumerate(node.expressions):
            word, value = "", argument
            if isinstance(argument, (exp.Kwarg, exp.PropertyEQ)):
                word, value = argument.this.name.upper(), argument.expression
                if word not in known:
                    hint = nearest(word, known) or f"arguments: {', '.join(known)}"
                    raise StatementError(f"{name} has no argument {word}", offset_in(value), hint)
                key = known[word]
            elif number < len(order):
                key = order[number]
            else:
                raise StatementError(f"{name} has too many arguments", offset_in(argument), "name them: GRACE => '10s'")
            duration = duration_of(value)
            if duration is None:
                text = f"'{argument.sql()}' is not a duration"
                raise StatementError(text, offset_in(argument), "write '10m' or INTERVAL '10' MINUTE")
            keys[f"window.{key}"], offsets[f"window.{key}"] = duration, offset_in(value)
        for key in (*order, "grace"):
            if f"window.{key}" not in keys:
                hint = f"write {name}({', '.join(f'<{item}>' for item in order)}, GRACE => '10s')"
                raise StatementError(f"{name} has no {key}", offset_in(node), hint)
        return keys, offsets

    def _group_name(self, node: exp.Expression, named: Mapping[str, exp.Expression]) -> str:
        for name, selected in named.items():
            if selected == node:
                return name
        if isinstance(node, exp.Column):
            return str(node.name)
        text = f"'{node.sql()}' in GROUP BY has no name"
        hint = f"select it: {_NO_NAME.format(node.sql()).removeprefix('write ')}"
        raise StatementError(text, offset_in(node, self._statement.offset_of("GROUP")), hint)

    def _named(self, name: str, node: exp.Expression) -> str:
        text = self._sql(node)
        return text if isinstance(node, exp.Column) and node.name == name else f"{text} AS {_identifier(name)}"

    def _refuse_aggregates(self, node: exp.Expression, where: str) -> None:
        found: Any
        for found in node.walk():
            if is_aggregate(found):
                text = f"{where} has the aggregate '{found.sql()}'"
                hint = "write HAVING" if where == "WHERE" else "add GROUP BY with a window"
                raise StatementError(text, offset_in(found), hint)

    # Expressions

    def _sql(self, node: exp.Expression, alias: str = "") -> str:
        return self.without_stream_names(node, alias).sql()

    def without_stream_names(self, node: exp.Expression, alias: str = "") -> exp.Expression:
        """Return an expression without the names of streams: ``v.offer_id`` is ``offer_id`` in a step."""
        names = self._stream_names | {alias} if alias else self._stream_names

        def rewritten(found: exp.Expression) -> exp.Expression:
            if isinstance(found, (exp.Query, exp.Window)):
                what = "a subquery" if isinstance(found, exp.Query) else "OVER"
                raise StatementError(f"{what} is not supported in expressions", offset_in(found), "remove it")
            if isinstance(found, exp.Column) and len(found.parts) > 1 and found.parts[0].name in names:
                parts = [part.copy() for part in found.parts[1:]]
                return exp.Column(**dict(zip(("this", "table", "db"), reversed(parts), strict=False)))
            return found

        return node.copy().transform(rewritten)


class _Results:
    """Replaces groups and aggregates in expressions by the columns of a window's results."""

    def __init__(self, groups: Mapping[str, exp.Expression], translator: _Translator) -> None:
        self._groups = groups
        self._translator = translator
        self.aggregates: dict[str, exp.Expression] = {}

    def rewritten(self, node: exp.Expression, name: str = "") -> exp.Expression:
        """Return the expression over columns of results. An aggregate that is the whole column has its name."""
        for column, group in self._groups.items():
            if node == group:
                return exp.column(_identifier(column))
        if is_aggregate(node):
            return exp.column(_identifier(self._aggregate(node, name)))
        if isinstance(node, exp.Column):
            if node.name in (*WINDOW_COLUMNS, *self._groups, *self.aggregates) and len(node.parts) == 1:
                return exp.column(_identifier(node.name))
            hint = f"add it to GROUP BY, or write first({node.sql()})"
            raise StatementError(f"'{node.sql()}' is neither in GROUP BY nor an aggregate", offset_in(node), hint)
        made = node.copy()
        for child in list(made.iter_expressions()):
            child.replace(self.rewritten(child))
        return made

    def _aggregate(self, node: exp.Expression, name: str) -> str:
        for known, other in self.aggregates.items():
            if other == node:
                return known
        name = name or f"aggregate_{len(self.aggregates) + 1}"
        self.aggregates[name] = node
        return name


def is_aggregate(node: exp.Expression) -> bool:
    """Return whether the node is a call of an aggregate function."""
    return _function(node) in FUNCTIONS


def _function(node: exp.Expression) -> str:
    if isinstance(node, exp.Anonymous):
        return str(node.name).upper()
    return node.sql_name().upper() if isinstance(node, exp.Func) else ""


def _names(node: exp.Expression) -> set[str]:
    """Return the qualifiers of the columns in a node; an empty text for columns without one."""
    return {item.parts[0].name if len(item.parts) > 1 else "" for item in node.find_all(exp.Column)}


def _identifier(name: str) -> exp.Identifier:
    return exp.to_identifier(name)
