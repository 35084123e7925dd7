"""The Elasticsearch cluster: requests, classified responses, its indices, and the checks before writing."""
