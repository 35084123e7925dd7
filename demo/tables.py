"""The tables of the demo and what the stream application makes of them: the index of each, and its documents."""

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
    key_only: bool = False
    """The key is not a field of the document."""


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

ENRICHED = Table(
    "enriched",
    "enrichment",
    "inventory.enriched",
    "impression_id",
    "SELECT i.impression_id, i.policy, i.offer_id, i.position, i.propensity, i.shown_at, o.score "
    "FROM impressions AS i JOIN offers AS o USING (offer_id)",
)
_DAY: LiteralString = "floor(extract(epoch FROM shown_at) / 86400)::bigint * 86400000"
OFFER_DAYS = Table(
    "offer days",
    "enrichment",
    "inventory.offer-days",
    "id",
    f"SELECT offer_id || '+' || {_DAY} AS id, offer_id, {_DAY} AS window_start, {_DAY} + 86400000 AS window_end, "
    "count(*) AS impressions, count(*) FILTER (WHERE policy = 'bts') AS bts, "
    "count(*) FILTER (WHERE policy = 'random') AS random, max(score) AS score "
    f"FROM impressions JOIN offers USING (offer_id) GROUP BY offer_id, {_DAY}",
    key_only=True,
)
DERIVED = (ENRICHED, OFFER_DAYS)
"""What the application in ``config/streams/enrichment.yaml`` writes."""
INDICES = (*TABLES, *DERIVED)
