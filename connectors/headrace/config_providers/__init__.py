"""Where placeholders get their values."""
