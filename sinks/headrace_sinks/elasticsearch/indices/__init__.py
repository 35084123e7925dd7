"""Where records go, and that it exists and takes them."""
