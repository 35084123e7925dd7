"""From where to read and what may be stored: positions, the low watermark, the rows that were sent."""
