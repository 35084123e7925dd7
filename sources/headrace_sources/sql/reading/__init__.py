"""Reading one relation: its inspection, its batches, on one connection or several."""
