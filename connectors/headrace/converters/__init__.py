"""Schema and value ⇄ bytes."""
