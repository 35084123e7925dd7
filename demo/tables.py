"""The three tables of the demo: the index of each, and the documents that it must contain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

SINK = "elasticsearch"
"""Name of the sink connector in ``config/connectors/elasticsearch.yaml``."""


@dataclass(frozen=True, slots=True)
class Table:
    """``expected`` selects the expected documents, one per row; ``key`` is the column of the document id."""

    name: str
    connector: str
    index: str
    key: str
    expected: LiteralString


OFFERS = Table("offers", "offers", "inventory.offers", "offer_id", "SELECT * FROM offers")
IMPRESSIONS = Table("impressions", "impressions", "inventory.impressions", "impression_id", "SELECT * FROM impressions")
CONVERSIONS = Table(
    "conversions",
    "conversions",
    "inventory.conversions",
    "conversion_id",
    "SELECT c.*, i.policy, i.offer_id, i.position, i.propensity "
    "FROM conversions AS c JOIN impressions AS i USING (impression_id)",
)
TABLES = (OFFERS, IMPRESSIONS, CONVERSIONS)
