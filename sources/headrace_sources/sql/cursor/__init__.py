"""The cursor of a relation: positions, the low watermark, the rows that were sent."""
