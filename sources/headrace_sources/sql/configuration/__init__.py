"""What users write: keys, rules over several of them, URLs, lists of tables, queries."""
