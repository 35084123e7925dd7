"""One relation: what it looks like, and the batches that come out of it, by one connection or several."""
