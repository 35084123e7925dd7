"""Two checkouts of headrace in one run, in turns over the same engines: is a change slower or faster?

The rate of Elasticsearch varies by a third from one minute to the next, so figures of two runs cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks import paths
from benchmarks.engines import CLIENTS, Engines, Runner, line
from benchmarks.report import Line


def versions(engines: Engines) -> list[Line]:
    """Measure both paths of this checkout, with those of the checkout ``--against`` as the limit.

    Raise SystemExit without ``--against``.
    """
    if engines.against is None:
        raise SystemExit("versions: give the other checkout, --against FOLDER (with an environment in FOLDER/.venv)")
    lines: list[Line] = []
    for client in CLIENTS:
        table = engines.name()
        engines.make_table(table, engines.rows_for(client))
        source = partial(paths.source, engines, table, client)
        sink = partial(paths.sink, engines, paths.fill(engines), client, at_a_time=4)
        lines += _compared(engines, f"PostgreSQL → Kafka, {client}", source)
        lines += _compared(engines, f"Kafka → Elasticsearch, {client}", sink)
    return lines


def _compared(engines: Engines, path: str, runner: Callable[[], Runner]) -> list[Line]:
    other = engines.against
    found = engines.measure(
        {f"{path}, this": runner, f"{path}, other": lambda: runner()._replace(checkout=other)},
    )
    return [line(f"{path} : the other checkout", found[f"{path}, this"], found[f"{path}, other"])]
