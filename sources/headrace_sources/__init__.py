"""Source connectors that come with headrace."""
