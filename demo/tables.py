"""What the demo knows of its three tables: where each goes, and what its documents must be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString

SINK = "elasticsearch"
"""Name of the sink connector in ``config/connectors/elasticsearch.yaml``."""


@dataclass(frozen=True, slots=True)
class Table:
    """``expected`` selects what Elasticsearch must hold, one row per document; ``key`` names the column of its id."""

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
