"""The configuration of the SQL source: keys, rules over several keys, URLs, syntax of values."""
