"""SQL statements, translated to the steps that YAML would have."""

from headrace_streams.statements.text import StatementError
from headrace_streams.statements.translation import Translation, translate

__all__ = ["StatementError", "Translation", "translate"]
