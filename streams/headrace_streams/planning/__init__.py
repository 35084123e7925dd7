"""From a configuration to a plan, with every problem that there is."""

from headrace_streams.planning.planner import make_plan

__all__ = ["make_plan"]
