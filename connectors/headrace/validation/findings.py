"""Findings as users see them: without secrets, one per problem, with their place in a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from headrace.errors import Finding, Location
from headrace.files import position_of
from headrace.interpolation import Resolution
from headrace.placeholders import is_interpolated
from headrace.redaction import Redactor, secrets_in
from headrace.validation.sections import ConfigSection

# Reasons that headrace.config makes from the model alone; any other may quote the value.
_REASON_WITHOUT_VALUE = re.compile(
    r"Not a number of type \w+|Expected value to be either true or false|String must be one of: .*|Value must be .*",
    re.DOTALL,
)


def secrets_of(sections: Iterable[ConfigSection], resolution: Resolution) -> dict[str, str]:
    """Return the secrets of a configuration, each with its replacement: its placeholder, or [hidden]."""
    declared = {name for section in sections for name in section.secret_keys()}
    literal = secrets_in(resolution.properties, declared)
    # Of a value with text around a placeholder, the whole value is a secret, too.
    return {**literal, **resolution.values}


def finished_findings(
    findings: Sequence[Finding], resolution: Resolution, raw: Mapping[str, str], secrets: Mapping[str, str]
) -> list[Finding]:
    """Return one finding per problem, without secrets."""
    left = {finding.key for finding in resolution.findings}  # the text of an unresolved placeholder is not validated
    others = (finding for finding in findings if finding.key not in left)
    redactor = Redactor(secrets)
    return [_redacted(finding, raw, redactor) for finding in dict.fromkeys([*resolution.findings, *others])]


def redact_findings(findings: Iterable[Finding], raw: Mapping[str, str], resolution: Resolution) -> list[Finding]:
    """Return findings whose messages and hints have no values of placeholders."""
    redactor = Redactor({**secrets_in(resolution.properties), **resolution.values})
    return [_redacted(finding, raw, redactor) for finding in findings]


def _redacted(finding: Finding, raw: Mapping[str, str], redactor: Redactor) -> Finding:
    written = raw.get(finding.key, "")
    if finding.code == "config.invalid_value" and is_interpolated(written):
        reason = finding.message.partition(f"for configuration {finding.key}: ")[2]
        if not _REASON_WITHOUT_VALUE.fullmatch(reason):
            reason = "the value of the placeholder is not valid"
        text = f"Invalid value {written} for configuration {finding.key}: {reason}"
        return replace(finding, message=text, hint="check the value of the placeholder")
    # A key that is not in the file contains an alias, which may come from a placeholder.
    key = finding.key if finding.key in raw else redactor(finding.key)
    return replace(redactor.finding(finding), key=key)


def locate_findings(
    findings: Iterable[Finding],
    positions: Mapping[str, Location],
    path: str = "",
    texts: Mapping[str, Location] | None = None,
) -> list[Finding]:
    """Return findings in the order of the file, each with its location. ``path`` is needed for files without any key.
    ``texts``: where the values begin, see :class:`headrace.files.ConfigFile`.

    A missing key is located at the last key's line, a finding about the whole file at its first line.
    """
    last = max(positions.values(), key=lambda place: place.line, default=Location(path, 0))
    end = Location(last.file, max(last.line, 1))

    def place(finding: Finding) -> Location:
        if finding.location is None and finding.at is not None and texts and (first := texts.get(finding.key)):
            line, column = finding.at
            return Location(first.file, first.line + line - 1, first.column + column - 1)
        return finding.location or (
            (position_of(finding.key, positions) or end) if finding.key else Location(last.file, 1)
        )

    def order(finding: Finding) -> tuple[bool, int, int]:
        where = place(finding)
        return where is end, where.line, where.column

    return [replace(finding, location=place(finding)) for finding in sorted(findings, key=order)]
