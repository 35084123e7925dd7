"""Makes the plan of an application from its configuration, and reports every problem of it."""

from headrace_streams.planning.planner import make_plan

__all__ = ["make_plan"]
