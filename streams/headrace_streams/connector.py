"""The plugin: checks the configuration of a stream application, and explains it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from headrace import ConfigError, Finding, StreamConnector, StreamTopology
from headrace_streams.configuration import ApplicationKeys
from headrace_streams.plan import Plan
from headrace_streams.planning import make_plan
from headrace_streams.task import StreamApplicationTask


class StreamApplicationConfig(ApplicationKeys):
    """The configuration keys, and the rules of the plan that they describe."""

    def problems(self) -> Iterable[Finding]:
        return make_plan("", self)[1]


class StreamApplicationConnector(StreamConnector):
    """Processes the records of topics in steps that a file describes, and writes topics, exactly once."""

    config_model = StreamApplicationConfig
    task_class = StreamApplicationTask

    def topology(self, name: str, properties: Mapping[str, str]) -> StreamTopology:
        return _plan(name, properties).topology()

    def explain(self, name: str, properties: Mapping[str, str]) -> Sequence[str]:
        return list(_plan(name, properties).explain())


def _plan(name: str, properties: Mapping[str, str]) -> Plan:
    plan, findings = make_plan(name, ApplicationKeys.parse(properties))
    if any(finding.severity == "error" for finding in findings):
        raise ConfigError(findings=findings)
    return plan
