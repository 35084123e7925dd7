"""The connection of a task: opened, shared, held back, cancelled; drivers' errors become ours."""
