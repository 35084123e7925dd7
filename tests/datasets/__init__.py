"""Data that tests read and that was not made for them."""
