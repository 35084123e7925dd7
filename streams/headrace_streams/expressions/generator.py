"""Generates the Python code of one SQL expression, and infers its type.

The code of an operator tests the classes of its operands inline; for all other classes it calls a function of
:mod:`headrace_streams.expressions.semantics`. An operand is evaluated at most once, and only when its value is needed:
AND, OR, CASE and COALESCE stop at the first operand that determines the result.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any, NamedTuple

from sqlglot import exp

from headrace_streams.expressions import semantics
from headrace_streams.expressions.errors import ExpressionError
from headrace_streams.expressions.functions import FUNCTIONS, cast_to
from headrace_streams.expressions.positions import offset_in
from headrace_streams.expressions.types import NUMERIC, Columns, ColumnType

_T = ColumnType
_MOST_DIGITS = 1_000
_ARITHMETIC: dict[type[exp.Expression], tuple[str, Callable[..., Any]]] = {
    exp.Add: ("+", semantics.add),
    exp.Sub: ("-", semantics.subtract),
    exp.Mul: ("*", semantics.multiply),
}
_COMPARISONS: dict[type[exp.Expression], tuple[str, Callable[..., Any]]] = {
    exp.EQ: ("==", semantics.equal),
    exp.NEQ: ("!=", semantics.not_equal),
    exp.LT: ("<", semantics.less),
    exp.LTE: ("<=", semantics.less_equal),
    exp.GT: (">", semantics.greater),
    exp.GTE: (">=", semantics.greater_equal),
}
_CASTS = {
    exp.DataType.Type.INT: _T.INTEGER,
    exp.DataType.Type.BIGINT: _T.INTEGER,
    exp.DataType.Type.DOUBLE: _T.DOUBLE,
    exp.DataType.Type.FLOAT: _T.DOUBLE,
    exp.DataType.Type.DECIMAL: _T.DECIMAL,
    exp.DataType.Type.TEXT: _T.STRING,
    exp.DataType.Type.VARCHAR: _T.STRING,
    exp.DataType.Type.BOOLEAN: _T.BOOLEAN,
    exp.DataType.Type.TIMESTAMP: _T.TIMESTAMP,
    exp.DataType.Type.TIMESTAMPTZ: _T.TIMESTAMP,
}


class Code(NamedTuple):
    """Python code of a subexpression. ``name``: it is a local name or a literal, which may be read repeatedly."""

    text: str
    type: ColumnType
    name: bool = False


class CodeGenerator:
    """Generates code for expressions that are evaluated in one loop and share the columns that the loop reads."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self._numbers = count()
        self.reads: dict[tuple[str, ...], str] = {}
        """Local name of each column that the loop must read before the expressions, in this order."""
        self.namespace: dict[str, Any] = {"_NUMBERS": semantics.NUMBERS, "_PLAIN": semantics.PLAIN}

    def generate(self, node: exp.Expression) -> Code:
        """Return the code of ``node``. Raise ExpressionError for what is not supported, unknown or of a wrong type."""
        try:
            return self._generate(node)
        except ExpressionError as error:
            if error.offset is None:
                error.offset = offset_in(node)
            raise

    def _generate(self, node: exp.Expression) -> Code:
        kind = type(node)
        if kind in _ARITHMETIC:
            return self._arithmetic(node)
        if kind in _COMPARISONS:
            return self._comparison(node)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler(self, node)
        name = node.name if isinstance(node, exp.Anonymous) else node.sql_name() if isinstance(node, exp.Func) else ""
        if name.upper() in FUNCTIONS:
            return self._function(name.upper(), node)
        what = f"the function {name.upper()}" if name else f"'{node.sql()}'"
        hint = f"supported functions: {', '.join([*FUNCTIONS, 'COALESCE', 'NULLIF', 'CAST', 'IF'])}" if name else ""
        raise ExpressionError(f"{what} is not supported in expressions", code="stream.unsupported", hint=hint)

    # Names of the generated code

    def _use(self, value: Any) -> str:
        """Return the name under which generated code reaches an object."""
        for name, known in self.namespace.items():
            if known is value:
                return name
        name = f"_v{next(self._numbers)}"
        self.namespace[name] = value
        return name

    def _hold(self, code: Code) -> tuple[str, str]:
        """Return the code that evaluates an operand and keeps the value, and the code that reads it again."""
        if code.name:
            return code.text, code.text
        local = f"t{next(self._numbers)}"
        return f"({local} := {code.text})", local

    def _column(self, node: exp.Expression) -> Code:
        path = _path(node)
        known = self._columns.type_of(path)
        for length in range(1, len(path) + 1):  # offer, then offer.cpi, which reads it
            self.reads.setdefault(path[:length], f"c{len(self.reads)}")
        return Code(self.reads[path], known, name=True)

    # Operators

    def _arithmetic(self, node: exp.Expression) -> Code:
        symbol, slow = _ARITHMETIC[type(node)]
        left, right = self.generate(node.this), self.generate(node.expression)
        _require(node, NUMERIC, left, right)
        kinds = (left.type, right.type)
        result = (
            _T.ANY
            if not all(kind.numeric for kind in kinds)
            else _T.INTEGER
            if set(kinds) == {_T.INTEGER}
            else (_T.DOUBLE if _T.DOUBLE in kinds else _T.DECIMAL)
        )
        first, l_value = self._hold(left)
        second, r_value = self._hold(right)
        fast = f"({first}.__class__ in _NUMBERS) & ({second}.__class__ in _NUMBERS)"
        if _is_number(node.expression):
            fast = f"{first}.__class__ in _NUMBERS"
        return Code(f"({l_value} {symbol} {r_value} if {fast} else {self._use(slow)}({l_value}, {r_value}))", result)

    def _division(self, node: exp.Expression) -> Code:
        """Return the code of a division. Its type is double, also for two integers: 3 / 2 is 1.5."""
        left, right = self.generate(node.this), self.generate(node.expression)
        _require(node, NUMERIC, left, right)
        first, l_value = self._hold(left)
        second, r_value = self._hold(right)
        fast = f"({first}.__class__ in _NUMBERS) & ({second}.__class__ in _NUMBERS) and {r_value}"
        slow = self._use(semantics.divide)
        return Code(f"({l_value} / {r_value} if {fast} else {slow}({l_value}, {r_value}))", _T.DOUBLE)

    def _modulo(self, node: exp.Expression) -> Code:
        left, right = self.generate(node.this), self.generate(node.expression)
        _require(node, NUMERIC, left, right)
        return Code(f"{self._use(semantics.modulo)}({left.text}, {right.text})", _T.ANY)

    def _comparison(self, node: exp.Expression) -> Code:
        symbol, slow = _COMPARISONS[type(node)]
        left, right = self.generate(node.this), self.generate(node.expression)
        _require_comparable(node, left, right)
        first, l_value = self._hold(left)
        second, r_value = self._hold(right)
        if _is_number(node.expression):
            fast = f"{first}.__class__ in _NUMBERS"
        elif isinstance(node.expression, exp.Literal):
            fast = f"{first}.__class__ is str"
        else:
            fast = f"({first}.__class__ is {second}.__class__) & ({l_value}.__class__ in _PLAIN)"
        call = f"{self._use(slow)}({l_value}, {r_value})"
        return Code(f"({l_value} {symbol} {r_value} if {fast} else {call})", _T.BOOLEAN)

    def _and(self, node: exp.Expression) -> Code:
        return self._logical(node, "False", semantics.conjunction)

    def _or(self, node: exp.Expression) -> Code:
        return self._logical(node, "True", semantics.disjunction)

    def _logical(self, node: exp.Expression, decides: str, slow: Callable[..., Any]) -> Code:
        left, right = self.generate(node.this), self.generate(node.expression)
        _require(node, (_T.BOOLEAN,), left, right)
        first, l_value = self._hold(left)
        second, r_value = self._hold(right)
        other = "True" if decides == "False" else "False"
        text = (
            f"({decides} if {first} is {decides} else {r_value} if ({second}.__class__ is bool) "
            f"& ({l_value} is {other}) else {self._use(slow)}({l_value}, {r_value}))"
        )
        return Code(text, _T.BOOLEAN)

    def _not(self, node: exp.Expression) -> Code:
        operand = self.generate(node.this)
        _require(node, (_T.BOOLEAN,), operand)
        first, value = self._hold(operand)
        return Code(
            f"(not {value} if {first}.__class__ is bool else {self._use(semantics.negation)}({value}))", _T.BOOLEAN
        )

    def _negative(self, node: exp.Expression) -> Code:
        if _is_number(node):
            return Code(f"(-{node.this.this})", _literal_type(node.this), name=True)
        operand = self.generate(node.this)
        _require(node, NUMERIC, operand)
        return Code(f"{self._use(semantics.negate)}({operand.text})", operand.type)

    def _is(self, node: exp.Expression) -> Code:
        operand = self.generate(node.this)
        wanted = node.expression
        if isinstance(wanted, exp.Null) and _is_literal(node.this):
            return Code("False", _T.BOOLEAN, name=True)
        if isinstance(wanted, exp.Null):
            return Code(f"({operand.text} is None)", _T.BOOLEAN)
        if isinstance(wanted, exp.Boolean):
            _require(node, (_T.BOOLEAN,), operand)
            return Code(f"({self._use(semantics.truth)}({operand.text}) is {bool(wanted.this)})", _T.BOOLEAN)
        raise _unsupported(node)

    def _in(self, node: exp.Expression) -> Code:
        if not node.expressions:
            raise _unsupported(node)
        operand = self.generate(node.this)
        members = [self.generate(item) for item in node.expressions]
        for member in members:
            _require_comparable(node, operand, member)
        slow = self._use(semantics.is_in)
        listed = "".join(f"{member.text}, " for member in members)
        if all(isinstance(item, exp.Literal) and item.is_string for item in node.expressions):
            texts = tuple(item.this for item in node.expressions)
            first, value = self._hold(operand)
            members_name, tuple_name = self._use(frozenset(texts)), self._use(texts)
            fast = f"{value} in {members_name} if {first}.__class__ is str"
            return Code(f"({fast} else {slow}({value}, {tuple_name}))", _T.BOOLEAN)
        return Code(f"{slow}({operand.text}, ({listed}))", _T.BOOLEAN)

    def _between(self, node: exp.Expression) -> Code:
        low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
        high = exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())
        return self.generate(exp.And(this=low, expression=high))

    def _like(self, node: exp.Expression) -> Code:
        pattern = node.expression
        if not isinstance(pattern, exp.Literal) or not pattern.is_string:
            raise ExpressionError("the pattern of LIKE must be a text", code="stream.unsupported")
        operand = self.generate(node.this)
        _require(node, (_T.STRING,), operand)
        compiled = self._use(semantics.like_pattern(pattern.this))
        return Code(f"{self._use(semantics.like)}({operand.text}, {compiled})", _T.BOOLEAN)

    def _concatenation(self, node: exp.Expression) -> Code:
        left, right = self.generate(node.this), self.generate(node.expression)
        _require(node, (_T.STRING,), left, right)
        return Code(f"{self._use(semantics.concatenate)}({left.text}, {right.text})", _T.STRING)

    # Conditional expressions

    def _case(self, node: exp.Expression) -> Code:
        default = node.args.get("default")
        otherwise = self.generate(default) if default is not None else Code("None", _T.NULL)
        text, kinds = otherwise.text, [otherwise.type]
        for branch in reversed(node.args["ifs"]):
            condition = branch.this
            if node.this is not None:  # CASE country WHEN 'DE' …
                condition = exp.EQ(this=node.this.copy(), expression=condition.copy())
            value = self.generate(branch.args["true"])
            text = f"({value.text} if {self._condition(condition)} is True else {text})"
            kinds.append(value.type)
        return Code(text, _common(kinds))

    def _if(self, node: exp.Expression) -> Code:
        otherwise = node.args.get("false") or exp.Null()
        value, rest = self.generate(node.args["true"]), self.generate(otherwise)
        text = f"({value.text} if {self._condition(node.this)} is True else {rest.text})"
        return Code(text, _common([value.type, rest.type]))

    def _condition(self, node: exp.Expression) -> str:
        code = self.generate(node)
        _require(node, (_T.BOOLEAN,), code)
        # A comparison gives a boolean or null; of a column this is not known.
        return f"{self._use(semantics.truth)}({code.text})" if code.type is _T.ANY else code.text

    def _coalesce(self, node: exp.Expression) -> Code:
        operands = [self.generate(item) for item in (node.this, *node.expressions)]
        text = operands[-1].text
        for item, operand in reversed(list(zip((node.this, *node.expressions), operands, strict=True))[:-1]):
            first, value = self._hold(operand)
            text = operand.text if _is_literal(item) else f"({value} if {first} is not None else {text})"
        return Code(text, _common([operand.type for operand in operands]))

    def _nullif(self, node: exp.Expression) -> Code:
        left, right = self.generate(node.this), self.generate(node.expression)
        _require_comparable(node, left, right)
        first, value = self._hold(left)
        text = f"(None if {self._use(semantics.equal)}({first}, {right.text}) is True else {value})"
        return Code(text, left.type)

    # Others

    def _literal(self, node: exp.Expression) -> Code:
        if node.is_string:
            return Code(repr(node.this), _T.STRING, name=True)
        kind = _literal_type(node)
        if len(node.this) > _MOST_DIGITS:
            raise ExpressionError(f"a number has more than {_MOST_DIGITS} digits", code="stream.out_of_range")
        return Code(f"({int(node.this) if kind is _T.INTEGER else float(node.this)!r})", kind, name=True)

    def _boolean(self, node: exp.Expression) -> Code:
        return Code(str(bool(node.this)), _T.BOOLEAN, name=True)

    def _null(self, node: exp.Expression) -> Code:
        return Code("None", _T.NULL, name=True)

    def _parentheses(self, node: exp.Expression) -> Code:
        return self.generate(node.this)

    def _cast(self, node: exp.Expression) -> Code:
        kind = node.args["to"]
        target = _CASTS.get(kind.this)
        if target is None:
            hint = f"types: {', '.join(sorted(set(_CASTS.values())))}"
            raise ExpressionError(f"CAST to {kind.sql()} is not supported", code="stream.unsupported", hint=hint)
        operand = self.generate(node.this)
        return Code(f"{self._cast_name(target)}({operand.text})", target)

    def _cast_name(self, target: ColumnType) -> str:
        name = f"_to_{target}"
        self.namespace.setdefault(name, cast_to(target))
        return name

    def _element(self, node: exp.Expression) -> Code:
        if len(node.expressions) != 1:
            raise _unsupported(node)
        value, index = self.generate(node.this), self.generate(node.expressions[0])
        _require(node, (_T.ARRAY, _T.OBJECT), value)
        return Code(f"{self._use(semantics.element)}({value.text}, {index.text})", _T.ANY)

    def _function(self, name: str, node: exp.Expression) -> Code:
        function = FUNCTIONS[name]
        given = [*node.expressions] if isinstance(node, exp.Anonymous) else _arguments(node)
        if not function.least <= len(given) <= len(function.arguments):
            raise ExpressionError(f"{name} has a wrong number of arguments: {len(given)}", code="stream.expression")
        operands = [self.generate(item) for item in given]
        for operand, kinds in zip(operands, function.arguments, strict=False):
            _require(node, kinds, operand)
        listed = ", ".join(operand.text for operand in operands)
        return Code(f"{self._use(function.call)}({listed})", function.result)


_HANDLERS: dict[type[exp.Expression], Callable[[CodeGenerator, Any], Code]] = {
    exp.Column: CodeGenerator._column,
    exp.Dot: CodeGenerator._column,
    exp.Literal: CodeGenerator._literal,
    exp.Boolean: CodeGenerator._boolean,
    exp.Null: CodeGenerator._null,
    exp.Paren: CodeGenerator._parentheses,
    exp.And: CodeGenerator._and,
    exp.Or: CodeGenerator._or,
    exp.Not: CodeGenerator._not,
    exp.Neg: CodeGenerator._negative,
    exp.Div: CodeGenerator._division,
    exp.Mod: CodeGenerator._modulo,
    exp.Is: CodeGenerator._is,
    exp.In: CodeGenerator._in,
    exp.Between: CodeGenerator._between,
    exp.Like: CodeGenerator._like,
    exp.DPipe: CodeGenerator._concatenation,
    exp.Case: CodeGenerator._case,
    exp.If: CodeGenerator._if,
    exp.Coalesce: CodeGenerator._coalesce,
    exp.Nullif: CodeGenerator._nullif,
    exp.Cast: CodeGenerator._cast,
    exp.Bracket: CodeGenerator._element,
}


def _path(node: exp.Expression) -> tuple[str, ...]:
    """Return the names of a column: ``offer.cpi`` is (offer, cpi)."""
    if isinstance(node, exp.Column):
        if isinstance(node.this, exp.Star):
            raise ExpressionError("'*' is not an expression", code="stream.unsupported", hint="name the columns")
        return tuple(part.name for part in node.parts)
    if isinstance(node, exp.Dot) and isinstance(node.this, (exp.Column, exp.Dot)):
        return (*_path(node.this), node.expression.name)
    raise _unsupported(node)


def _arguments(node: exp.Expression) -> list[exp.Expression]:
    """Return the arguments of a function that sqlglot knows, in the order of its definition."""
    found: list[exp.Expression] = []
    for name in node.arg_types:
        value = node.args.get(name)
        found.extend(value if isinstance(value, list) else [value] if isinstance(value, exp.Expression) else [])
    return found


def _is_number(node: exp.Expression) -> bool:
    if isinstance(node, exp.Neg):
        node = node.this
    return isinstance(node, exp.Literal) and not node.is_string


def _is_literal(node: exp.Expression) -> bool:
    """Return whether the value is that of a literal, which is never null: Python warns of ``1 is None``."""
    inner: Any = node.unnest()
    if isinstance(inner, exp.Coalesce):
        return _is_literal(inner.this)
    return isinstance(inner, exp.Literal) or _is_number(inner)


def _literal_type(node: exp.Expression) -> ColumnType:
    return _T.INTEGER if node.this.isdigit() else _T.DOUBLE


def _common(kinds: list[ColumnType]) -> ColumnType:
    known = {kind for kind in kinds if kind is not _T.NULL}
    return known.pop() if len(known) == 1 else _T.ANY


def _require(node: exp.Expression, allowed: tuple[ColumnType, ...], *operands: Code) -> None:
    for operand in operands:
        if not operand.type.may_be(*allowed):
            text = f"'{node.sql()}' needs {' or '.join(allowed)}, and an operand is of type {operand.type}"
            raise ExpressionError(text, code="stream.wrong_type", hint="convert it by CAST")


def _require_comparable(node: exp.Expression, left: Code, right: Code) -> None:
    kinds = (left.type, right.type)
    if left.type is right.type or _T.ANY in kinds or _T.NULL in kinds or all(kind.numeric for kind in kinds):
        return
    text = f"'{node.sql()}' compares {left.type} with {right.type}"
    raise ExpressionError(text, code="stream.wrong_type", hint="convert one side by CAST")


def _unsupported(node: exp.Expression) -> ExpressionError:
    return ExpressionError(f"'{node.sql()}' is not supported in expressions", code="stream.unsupported")
