"""The applications of the benchmark in Quix Streams. Runs in an environment of its own, which pins another client.

Arguments: bootstrap servers, application, topology, views, clicks, offers, output, folder of the state.
"""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

from quixstreams import Application


def main() -> None:
    bootstrap, name, topology, views, clicks, offers, output, folder = sys.argv[1:]
    application = Application(
        broker_address=bootstrap,
        consumer_group=name,
        auto_offset_reset="earliest",
        state_dir=folder,
        processing_guarantee="exactly-once",
        commit_interval=0.5,
        loglevel="ERROR",
    )

    def stream(topic: str) -> Any:
        return application.dataframe(application.topic(topic, key_deserializer="bytes", value_deserializer="json"))

    made = stream(views)
    if topology == "enrichment":
        made = made.join_asof(stream(offers), how="left", on_merge=_enriched, grace_ms=timedelta(days=3650))
    elif topology == "count":
        made = made.tumbling_window(timedelta(minutes=1), grace_ms=timedelta(minutes=1)).count().final()
    else:
        made = made.join_interval(
            stream(clicks),
            how="left",
            on_merge=lambda view, click: {**view, "click": click},
            grace_ms=timedelta(hours=2),
            backward_ms=0,
            forward_ms=timedelta(hours=1),
        )
    made.to_topic(application.topic(output, key_serializer="bytes", value_serializer="json"))
    application.run()


def _enriched(view: dict[str, Any], offer: dict[str, Any] | None) -> dict[str, Any]:
    if offer is None:
        return {**view, "offer": None}
    epi = offer["cpi"] / offer["loi"]
    return {**view, "offer": offer, "epi": epi, "country_match": view["country"] == offer["country"]}


if __name__ == "__main__":
    main()
