"""The cluster at the other end: requests, what its answers mean, what it has, whether it lets us in."""
