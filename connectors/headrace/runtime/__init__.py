"""Makes what is follow what was asked."""
