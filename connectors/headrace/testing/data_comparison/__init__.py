"""Compare a table with a topic and an index: every key and every value, without sampling.

::

    rows = table_rows(connection, "SELECT * FROM events", key="id")
    topic = topic_entries(broker, "shop.events")
    index = index_entries("http://127.0.0.1:9200", "shop.events")
    print(compare_topic(rows, topic))
    print(compare_index(rows, index))
    print(compare_index(latest(topic), index))     # also while the table changes
"""

from headrace.testing.data_comparison.compare import Comparison, compare_index, compare_topic, latest, settle
from headrace.testing.data_comparison.entries import (
    DataEntry,
    Row,
    Rows,
    index_entries,
    key_text,
    table_rows,
    topic_entries,
)
from headrace.testing.data_comparison.values import differing, same

__all__ = [
    "Comparison",
    "DataEntry",
    "Row",
    "Rows",
    "compare_index",
    "compare_topic",
    "differing",
    "index_entries",
    "key_text",
    "latest",
    "same",
    "settle",
    "table_rows",
    "topic_entries",
]
