"""What must survive: offsets, configurations, statuses."""
