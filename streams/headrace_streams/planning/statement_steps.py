"""Replaces steps with ``sql`` by the steps that the statement is translated to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from headrace import Finding
from headrace_streams.expressions.positions import line_and_column
from headrace_streams.planning.builder import PlanBuilder
from headrace_streams.statements import StatementError, translate

_SQL = "sql"


@dataclass(frozen=True)
class StatementPlace:
    """Where in a statement a translated key comes from. Line and column count from 1."""

    key: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column} of the statement"


@dataclass
class TranslatedSteps:
    """All steps without ``sql``, and the places of those that statements were translated to."""

    flat: dict[str, str] = field(default_factory=dict)
    places: dict[str, StatementPlace] = field(default_factory=dict)
    """By complete key: ``steps.per_offer.window.by``."""
    written: frozenset[str] = frozenset()
    """The complete keys of the configuration."""

    def located(self, finding: Finding) -> Finding:
        """Return a finding about a translated key as one about the statement."""
        place = place_of(finding.key, self.places)
        if place is None or finding.key in self.written:
            return finding
        text = f"{finding.message} ({place})"
        return replace(finding, key=place.key, message=text, at=(place.line, place.column))


def place_of(key: str, places: Mapping[str, StatementPlace]) -> StatementPlace | None:
    """Return the place of a key, or of the step that it belongs to."""
    while key:
        if key in places:
            return places[key]
        key = key.rpartition(".")[0]
    return None


def translate_steps(builder: PlanBuilder, flat: Mapping[str, str]) -> TranslatedSteps:
    """Translate all statements. What is wrong with them goes to the builder's findings."""
    made = TranslatedSteps(written=frozenset(f"steps.{name}" for name in flat))
    tables = {name: table.key_column for name, table in builder.tables.items()}
    statements = {name.partition(".")[0] for name in flat if name.partition(".")[2] == _SQL}
    for name, text in flat.items():
        step, _, rest = name.partition(".")
        key = f"steps.{name}"
        if step not in statements:
            made.flat[name] = text
        elif rest != _SQL:
            problem = f"step '{step}' has 'sql' and '{rest}'"
            builder.report("config.conflict", problem, key, "remove it, or write another step")
        else:
            _translate(builder, made, step, text, tables)
    return made


def _translate(
    builder: PlanBuilder, made: TranslatedSteps, step: str, text: str, tables: Mapping[str, str | None]
) -> None:
    key = f"steps.{step}.{_SQL}"
    try:
        translation = translate(step, text, tables)
    except (StatementError, RecursionError) as error:
        builder.failed.add(step)
        if isinstance(error, RecursionError):
            builder.report("stream.syntax", "the statement is nested too deeply", key, "divide it into several steps")
            return
        place = StatementPlace(key, *line_and_column(text, error.offset))
        at = (place.line, place.column)
        builder.findings.append(Finding(error.code, f"{error.message} ({place})", key, error.hint, at=at))
        return
    made.flat |= translation.properties
    for name, offset in translation.offsets.items():
        made.places[f"steps.{name}"] = StatementPlace(key, *line_and_column(text, offset))
