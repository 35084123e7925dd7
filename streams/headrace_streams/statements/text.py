"""The text of a statement: tokens, positions, durations, and the clauses that SQL parsers do not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import sqlglot
from sqlglot import Token, TokenType, exp
from sqlglot.errors import SqlglotError, TokenError

from headrace_streams.expressions.positions import offset_of_error

_UNITS = {"MILLISECOND": "ms", "SECOND": "s", "MINUTE": "m", "HOUR": "h", "DAY": "d"}
SESSION = "SESSIO_"
"""As long as SESSION, so that positions stay."""
_DURATION = "write '10m' or 10 MINUTES"


class StatementError(Exception):
    """Something in a statement that is not supported or not valid. ``offset``: of the character it is about."""

    def __init__(self, message: str, offset: int, hint: str = "", code: str = "stream.unsupported") -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint
        self.code = code


@dataclass(frozen=True)
class Within:
    """``WITHIN (before, after) GRACE PERIOD grace``: durations as a configuration has them."""

    offset: int
    before: str | None
    after: str
    grace: str | None


@dataclass(frozen=True)
class Statement:
    """A parsed SELECT. ``within``: by the number of the join, from 0."""

    text: str
    select: exp.Select
    within: dict[int, Within]
    tokens: Sequence[Token]

    def offset_of(self, word: str, after: int = 0) -> int:
        """Return the offset of a keyword; that of the statement when it is not found."""
        for token in self.tokens:
            if token.start >= after and token.text.upper().startswith(word):
                return token.start
        return after


def parse_statement(text: str) -> Statement:
    """Parse one SELECT. Raise StatementError."""
    try:
        tokens = sqlglot.tokenize(text)
    except TokenError as error:
        raise StatementError("a quote or comment is not closed", 0, code="stream.syntax") from error
    within, rest = _take_within(_with_session(text, tokens), tokens)
    try:
        found = sqlglot.parse(rest)
    except SqlglotError as error:
        details: dict[str, Any] = (getattr(error, "errors", None) or [{}])[0]
        problem = str(details.get("description") or "not readable").rstrip(".")
        near = f" at '{details['highlight']}'" if details.get("highlight") else ""
        offset = offset_of_error(text, details)
        raise StatementError(f"not readable as SQL: {problem}{near}", offset, code="stream.syntax") from error
    if len(found) != 1:
        offset = next((token.start for token in tokens if token.token_type is TokenType.SEMICOLON), 0)
        raise StatementError(f"a step has one statement, and here are {len(found)}", offset, "write a step for each")
    statement = found[0]
    if not isinstance(statement, exp.Select):
        name = "an empty statement" if statement is None else statement.key.upper()
        found_at = [token for token in tokens if token.text.upper() == name] or list(tokens[:1])
        if found_at:
            name = found_at[0].text
        offset = found_at[0].start if found_at else 0
        raise StatementError(f"{name} is not supported", offset, "write SELECT; outputs name the topics")
    return Statement(text, statement, within, tokens)


def duration_of(node: exp.Expression) -> str | None:
    """Return a duration of a parsed expression: ``'10m'`` or ``INTERVAL '10' MINUTE``; None when it is none."""
    if isinstance(node, exp.Literal) and node.is_string:
        return str(node.this)
    if isinstance(node, exp.Interval) and isinstance(node.this, exp.Literal) and node.args.get("unit") is not None:
        unit = _UNITS.get(node.args["unit"].name.upper().removesuffix("S"))
        return f"{node.this.this}{unit}" if unit else None
    return None


def _with_session(text: str, tokens: Sequence[Token]) -> str:
    """Return the text with another name for the function SESSION, which sqlglot does not read as a function."""
    for token, following in pairwise(tokens):
        if token.text.upper() == "SESSION" and following.text == "(":
            text = text[: token.start] + SESSION + text[token.end + 1 :]
    return text


def _take_within(text: str, tokens: Sequence[Token]) -> tuple[dict[int, Within], str]:
    """Return the WITHIN clauses, and the text with blanks in their place, so that positions stay."""
    found: dict[int, Within] = {}
    join, open_join, place = -1, False, 0
    while place < len(tokens):
        token = tokens[place]
        if token.token_type is TokenType.JOIN:
            join, open_join = join + 1, True
        elif token.token_type in (TokenType.ON, TokenType.USING):
            open_join = False
        elif open_join and token.text.upper() == "WITHIN" and token.token_type is not TokenType.STRING:
            clause = _WithinReader(tokens, place)
            found[join] = clause.read()
            end = tokens[clause.place - 1].end
            blanks = "".join("\n" if letter == "\n" else " " for letter in text[token.start : end + 1])
            text = text[: token.start] + blanks + text[end + 1 :]
            place, open_join = clause.place, False
            continue
        place += 1
    return found, text


class _WithinReader:
    """Reads one WITHIN clause from tokens."""

    def __init__(self, tokens: Sequence[Token], place: int) -> None:
        self.tokens = tokens
        self.start = tokens[place].start
        self.place = place + 1

    def read(self) -> Within:
        before = None
        if self._is("("):
            before = self._duration()
            self._expect(",")
            after = self._duration()
            self._expect(")")
        else:
            after = self._duration()
        grace = None
        if self._is("GRACE"):
            self._expect("PERIOD")
            grace = self._duration()
        return Within(self.start, before, after, grace)

    def _is(self, word: str) -> bool:
        if self.place < len(self.tokens) and self.tokens[self.place].text.upper() == word:
            self.place += 1
            return True
        return False

    def _expect(self, word: str) -> None:
        if not self._is(word):
            raise self._error(f"expected '{word}'")

    def _duration(self) -> str:
        interval = self._is("INTERVAL")
        if self.place >= len(self.tokens):
            raise self._error("expected a duration")
        token = self.tokens[self.place]
        self.place += 1
        if token.token_type is TokenType.STRING and not interval:
            return token.text
        unit = self.tokens[self.place].text.upper() if self.place < len(self.tokens) else ""
        short = _UNITS.get(unit.removesuffix("S"))
        if token.token_type not in (TokenType.NUMBER, TokenType.STRING) or short is None:
            self.place -= 1
            raise self._error("expected a duration")
        self.place += 1
        return f"{token.text}{short}"

    def _error(self, problem: str) -> StatementError:
        token = self.tokens[min(self.place, len(self.tokens) - 1)]
        found = f", found '{token.text}'" if self.place < len(self.tokens) else ""
        return StatementError(f"WITHIN: {problem}{found}", token.start, _DURATION, "stream.syntax")
