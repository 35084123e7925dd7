"""Replaces secrets in the texts that leave a worker: statuses, logs, dead letters, metrics, messages of commands.

:class:`Secrets` is told every secret where a configuration is validated, which is the only way into a worker. Texts
pass its redactors at the exits, so that the parts in between need not know what is secret.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import quote, quote_plus, unquote

from headrace.errors import ConfigError, Finding, HeadraceError

Redact = Callable[[str], str]

HIDDEN = "[hidden]"


def unredacted(text: str) -> str:
    """Return the text unchanged: for parts that are used outside of a worker, for example in tests."""
    return text


_SHORTEST = 3
"""Characters: replacing shorter values would make texts unreadable, and such values are not secret."""
_LONGEST_PLAIN = 16
_MOST = 500
"""Secrets of one connector that are remembered; the oldest are forgotten."""
_SECRET_KEY = re.compile(
    r"(^|[._-])(password|passwd|pwd|secret|token|credentials)$"
    r"|jaas\.config$|(^|[._])(api|private|secret|access|keystore)[._]key$"
    r"|basic\.auth\.user\.info$",
    re.IGNORECASE,
)
_ORACLE_LOGIN = re.compile(r"^jdbc:oracle:\w+:[^/@\s]*/([^@\s]+)@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"(?:^|[?&;\s])[\w.-]*(?:password|passwd|pwd|secret|token)\s*=\s*(\"[^\"]*\"|'[^']*'|[^&;\s]*)", re.IGNORECASE
)


class Secrets:
    """The secrets of a worker and of its connectors, by owner. Thread-safe; secrets are added, texts are read."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._worker: dict[str, str] = {}
        self._connectors: dict[str, dict[str, str]] = {}
        self._redactors: dict[str | None, Redactor] = {}

    def add_worker(self, secrets: Mapping[str, str]) -> None:
        """Add secrets of the worker itself: those of its Kafka clients, for example."""
        with self._lock:
            self._worker |= secrets
            self._redactors.clear()

    def add(self, connector: str, secrets: Mapping[str, str]) -> None:
        """Add secrets of a connector. Older ones stay: a task that still runs may name them."""
        with self._lock:
            known = self._connectors.setdefault(connector, {})
            if secrets.items() <= known.items():
                return
            known |= secrets
            for old in list(known)[: max(0, len(known) - _MOST)]:
                del known[old]
            self._redactors.clear()

    def of(self, connector: str) -> Redactor:
        """Return the redactor of a connector's texts: for the worker's secrets and its own, not those of others.

        Otherwise a text would show whether it contains another connector's secret.
        """
        with self._lock:
            if (found := self._redactors.get(connector)) is None:
                secrets = {**self._worker, **self._connectors.get(connector, {})}
                found = self._redactors[connector] = Redactor(secrets)
            return found

    def everywhere(self, text: str) -> str:
        """Return a text without any secret: for logs and terminals, which only operators read."""
        with self._lock:
            if (found := self._redactors.get(None)) is None:
                every = dict(self._worker)
                for secrets in self._connectors.values():
                    every |= secrets
                found = self._redactors[None] = Redactor(every)
        return found(text)

    def redact(self, connector: str, text: str) -> str:
        """Return a connector's text without secrets."""
        return self.of(connector)(text)


class Redactor:
    """Replaces secrets by their placeholders, in every form in which texts quote them.

    A form is the value itself, or the value URL-encoded, escaped for JSON, as Python's repr writes it, or with its
    whitespace collapsed. Upper and lower case do not matter. Only whole values are replaced.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        forms: dict[str, str] = {}
        for secret, shown in secrets.items():
            # A placeholder with quotes would break the JSON of a log line.
            harmless = shown if not re.search(r"[\"\\\x00-\x1f]", shown) else HIDDEN
            for form in _forms(secret):
                forms.setdefault(form.lower(), harmless)
        self._forms = forms

    def __call__(self, text: str) -> str:
        if not self._forms:
            return text
        lower = text.lower()
        # Nearly no text contains a secret, and searching for literal texts is much faster than a pattern of them all.
        found = sorted((form for form in self._forms if form in lower), key=len, reverse=True)
        if not found:
            return text
        pattern = re.compile("|".join(map(re.escape, found)), re.IGNORECASE)
        return pattern.sub(lambda match: self._forms.get(match[0].lower(), HIDDEN), text)

    def finding(self, finding: Finding) -> Finding:
        """Return a finding without secrets; its key and location are not changed."""
        return replace(finding, message=self(finding.message), hint=self(finding.hint))


@contextmanager
def redacted_errors(redactor: Redactor) -> Iterator[None]:
    """Redact the texts of errors that the block raises."""
    try:
        yield
    except HeadraceError as error:
        error.message, error.hint = redactor(error.message), redactor(error.hint)
        error.args = (error.message,)
        if isinstance(error, ConfigError):
            error.findings = tuple(map(redactor.finding, error.findings))
        raise


def is_secret_key(name: str) -> bool:
    """Return whether a key that no model declares as a password holds one, by its name."""
    return _SECRET_KEY.search(name) is not None


def secrets_in(properties: Mapping[str, str], declared: Iterable[str] = ()) -> dict[str, str]:
    """Return the secrets in the values of keys: passwords by the keys' names or in URLs and parameters.

    ``declared``: keys that a model declares as passwords.
    """
    declared = set(declared)
    whole = [value for name, value in properties.items() if name in declared or is_secret_key(name)]
    plain = [value for name, value in properties.items() if name not in declared and not is_secret_key(name)]
    parts = [part for value in properties.values() for part in _parts(value)]
    # A short password that is also the user or the database, as in postgres:postgres@host/postgres, is no secret.
    words = Counter(word for value in plain for word in re.findall(r"\w+", value) if len(word) <= _LONGEST_PLAIN)
    words.subtract(parts)
    found: dict[str, str] = {}
    for text in [*whole, *parts]:
        if len(text.strip()) >= _SHORTEST and words[text] < 1 and len(found) < _MOST:
            found |= {text: HIDDEN, unquote(text): HIDDEN}
    return found


def _parts(value: str) -> Iterator[str]:
    """Yield the passwords within a value: of URLs, and of parameters such as ``password=…``."""
    yield from _url_passwords(value)
    yield from _ORACLE_LOGIN.findall(value)
    yield from (text.strip("\"'") for text in _PARAMETER.findall(value))


def _url_passwords(text: str) -> Iterator[str]:
    """Yield the passwords of URLs (``scheme://user:password@host``) in a text, in one pass."""
    end = 0
    while (sign := text.find("@", end)) >= 0:
        words = text[end:sign].split()
        user, colon, password = (words[-1] if words else "").rpartition("://")[2].partition(":")
        if colon and "/" not in user:
            yield password
        end = sign + 1


def _forms(secret: str) -> set[str]:
    stripped = secret.strip()
    if len(stripped) < _SHORTEST:
        return set()
    forms = {secret, stripped, " ".join(secret.split())}
    for text in (secret, stripped):
        forms |= {quote(text, safe=""), quote(text), quote_plus(text), repr(text)[1:-1], ascii(text)[1:-1]}
        forms |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    # How repr escapes quotes depends on the whole text.
    escaped = repr(stripped + "\"'")[1:-3].removesuffix('"').removesuffix("\\")
    return {form for form in {*forms, escaped} if len(form) >= _SHORTEST}
