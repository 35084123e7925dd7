"""Asks the systems of connectors about configurations that come over REST: which values keys may have, who is refused.

The values of placeholders are not sent to a system that a caller has chosen: see decision 357.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence

from headrace.errors import ConfigError, Finding, HeadraceError
from headrace.placeholders import is_interpolated
from headrace.plugin import Connector, SystemChoices
from headrace.redaction import Redactor, secrets_in
from headrace.registry import PluginKind
from headrace.validation import Validator

_TIMEOUT = 15.0  # seconds: the drivers' own limit for a connection is 10
_MOST = 4  # lookups at a time; one that a system does not end keeps its place


class SystemLookups:
    """Lookups of a worker. Thread-safe; each runs on a thread of its own, because a driver may not return."""

    def __init__(self, validator: Validator, timeout: float = _TIMEOUT, most: int = _MOST) -> None:
        self._validator = validator
        self._timeout = timeout
        self._places = threading.BoundedSemaphore(most)

    def choices(
        self,
        properties: Mapping[str, str],
        known: Iterable[Mapping[str, str]],
        findings: Iterable[Finding],
    ) -> SystemChoices:
        """Return what the system of a configuration has; nothing when it is not to be asked.

        ``known``: the configurations of the worker's connectors. ``findings``: about ``properties``.
        """
        connector = self._connector(properties)
        if connector is None:
            return SystemChoices()
        given = _part(properties, connector.lookup_keys)
        wrong = any(item.severity == "error" and _belongs(item.key, connector.lookup_keys) for item in findings)
        if not given or wrong or not self._may_ask(connector, given, known):
            return SystemChoices()
        resolution = self._validator.interpolator.resolution(given, trusted=False)
        if resolution.findings:
            return SystemChoices()
        redact = Redactor({**secrets_in(resolution.properties), **resolution.values})
        found = self._ask(connector, resolution.properties)
        return SystemChoices(found.values, [redact.finding(finding) for finding in found.findings])

    def refusals(self, properties: Mapping[str, str], known: Mapping[str, Mapping[str, str]]) -> list[Finding]:
        """Return why the system of a connector that is to be created or changed refuses it: a wrong password, no such
        database.

        The system is not asked again with the keys that the connector has already: a connector can be changed while its
        system is down. A system that cannot be reached refuses nothing; the connector waits for it. ``known``: the
        configurations of the worker's connectors.
        """
        connector = self._connector(properties)
        current = known.get(properties.get("name", ""))
        if connector is None or (current is not None and self._asks_the_same(connector, properties, current)):
            return []
        findings = self.choices(properties, known.values(), ()).findings
        return [finding for finding in findings if finding.severity == "error" and finding.cause != "outage"]

    def _asks_the_same(self, connector: Connector, given: Mapping[str, str], current: Mapping[str, str]) -> bool:
        keys = connector.lookup_keys
        return type(self._connector(current)) is type(connector) and _part(current, keys) == _part(given, keys)

    def _connector(self, properties: Mapping[str, str]) -> Connector | None:
        try:
            plugin = self._validator.registry.find(PluginKind.CONNECTOR, properties.get("connector.class", ""))
            connector: Connector = plugin.cls()
        except ConfigError:  # the validation reports it
            return None
        return connector if connector.lookup_keys else None

    def _may_ask(self, connector: Connector, given: Mapping[str, str], known: Iterable[Mapping[str, str]]) -> bool:
        """Return whether the caller knows all the values, or a connector uses the same ones for the same system."""
        if not any(map(is_interpolated, given.values())):
            return True
        return any(self._asks_the_same(connector, given, each) for each in known)

    def _ask(self, connector: Connector, given: Mapping[str, str]) -> SystemChoices:
        key = connector.lookup_keys[0]
        if not self._places.acquire(blocking=False):
            text = "the system was not asked: other validations wait for their systems"
            return SystemChoices({}, [Finding("config.lookup_busy", text, key, "try again later", cause="outage")])
        answers: list[SystemChoices | BaseException] = []
        ended = threading.Event()

        def ask() -> None:
            try:
                answers.append(connector.look_up(given))
            except HeadraceError as error:
                answers.append(SystemChoices({}, [error.finding(key)]))
            except BaseException as error:  # a bug of the connector, for the thread of the request
                answers.append(error)
            finally:
                self._places.release()
                ended.set()

        threading.Thread(target=ask, name="validation-lookup", daemon=True).start()
        if not ended.wait(self._timeout):
            text = f"the system did not answer within {self._timeout:g} s"
            hint = "check that the address is correct and that the worker can reach it"
            return SystemChoices({}, [Finding("config.lookup_timeout", text, key, hint, cause="outage")])
        (answer,) = answers
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _part(properties: Mapping[str, str], keys: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in properties.items() if _belongs(name, keys)}


def _belongs(name: str, keys: Sequence[str]) -> bool:
    return name in keys or name.startswith(tuple(key for key in keys if key.endswith(".")))
