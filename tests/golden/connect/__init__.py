"""The golden contract of the REST API: requests, and the answers of a Kafka Connect 4.4 worker to them.

``scripts/record_connect_answers.py`` records the answers; ``tests/unit/rest/test_golden_contract.py`` compares.
"""
