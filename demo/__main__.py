"""``python -m demo``: starts engines and worker, and shows the progress of the rows. Described in docs/demo.md."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import NoReturn

from elasticsearch import Elasticsearch
from rich.console import Console

from demo import dataset, loader
from demo.monitoring import hop_lines, read_freshness, write_pack
from demo.prober import DocumentReader, Prober
from demo.progress import Watcher
from demo.trickle import Trickle
from demo.watch import DemoRun, prove, wait_for_rest, watch
from demo.worker import DemoWorker, free_port
from headrace.embedded import EmbeddedStack
from headrace.errors import HeadraceError

Start = Callable[[argparse.Namespace, Console, ExitStack], int]

TRY = """
  REST API       {rest}
  Elasticsearch  {elasticsearch}
  worker's log   {log}

Try, in another terminal:

  # the offers that pay best
  curl -s '{elasticsearch}/inventory.offers/_search?q=status.keyword:live&sort=payout:desc&size=3&pretty'

  # clicks per selection policy
  curl -s '{elasticsearch}/inventory.conversions/_search?size=0&filter_path=aggregations&pretty' \\
    -H 'Content-Type: application/json' -d '{{"aggs": {{"policies": {{"terms": {{"field": "policy.keyword"}}}}}}}}'

  # the offers that were shown most on a day, with their impressions by policy
  curl -s '{elasticsearch}/inventory.offer-days/_search?sort=impressions:desc&size=3&pretty'

  # what the connector of impressions is doing
  curl -s {rest}/connectors/impressions/status
"""


def arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed and checked command line."""
    parser = argparse.ArgumentParser(prog="python -m demo", description="headrace on real engines with real data.")
    parser.add_argument(
        "--once", action="store_true", help="end when the index equals the database; exit code 1 if not"
    )
    parser.add_argument("--timeout", type=float, default=180.0, metavar="S", help="seconds for --once (default 180)")
    parser.add_argument("--trickle", type=float, default=10.0, metavar="S", help="seconds of changes for --once (10)")
    parser.add_argument("--rate", type=float, default=5.0, metavar="N", help="transactions a second (default 5)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="folder to keep; default: a temporary one, removed")
    parser.add_argument(
        "--pack", type=Path, default=Path("build/demo-pack"), metavar="DIR", help="dashboards (build/demo-pack)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    chosen = parser.parse_args(argv)
    if chosen.rate <= 0 or chosen.timeout <= 0 or chosen.trickle < 0:
        parser.error("--rate and --timeout must be positive, --trickle not negative")
    return chosen


def main(argv: Sequence[str]) -> int:
    """Exit codes: 0 success (also Ctrl+C), 1 not equal or failed, 3 environment problem, 130 --once interrupted."""
    start, chosen = _chosen(argv)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell starts background commands with it ignored
        signal.signal(number, _interrupt)
    with ExitStack() as stack:
        try:
            return start(chosen, console, stack)
        except KeyboardInterrupt:
            console.print("\nstopping …")
            return 130 if chosen.once else 0
        except HeadraceError as error:
            console.print(f"error: {error.code}: {error}")
            return error.exit_code
        finally:
            # Stopping is bounded by timeouts; a second Ctrl+C would only leave processes behind.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _chosen(argv: Sequence[str]) -> tuple[Start, argparse.Namespace]:
    """Return the demo that is asked for, and its arguments."""
    if argv[:1] == ["exploration"]:
        from demo.exploration import run as exploration  # late: it needs numpy, the other demo does not

        return exploration.run, exploration.arguments(argv[1:])
    return run, arguments(argv)


def run(chosen: argparse.Namespace, console: Console, stack: ExitStack) -> int:
    """Start all parts in order and show their progress. ``stack`` stops them in reverse order."""
    console.print("data: Open Bandit Dataset, sample (ZOZO, Inc.; docs/data.md)")
    data = dataset.load()
    folder = _folder(chosen, console, stack)
    console.print(f"starting Kafka, Elasticsearch and PostgreSQL in {folder}")
    console.print("(the first start downloads 90 MB) …")
    engines = EmbeddedStack(folder)
    stack.callback(engines.stop)
    engines.start()
    database, elasticsearch = engines.postgres.url, engines.elasticsearch.url
    began = time.monotonic()
    loaded = loader.load(database, data)
    console.print(f"PostgreSQL has {sum(loaded.values()):,} rows, after {time.monotonic() - began:.1f} s")

    rest = f"http://127.0.0.1:{free_port(8083)}"
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": engines.kafka.bootstrap_servers,
        "DATABASE_URL": database,
        "ELASTICSEARCH_URL": elasticsearch,
        "HEADRACE_LISTENERS": rest,
        "HEADRACE_REST_AUTHENTICATION": "none",
        "HEADRACE_DATA": str(folder),
    }
    worker = DemoWorker(environment, folder / "worker.log")
    stack.callback(worker.stop)
    watcher = Watcher(rest, elasticsearch)
    stack.callback(watcher.close)
    documents = DocumentReader(elasticsearch)
    stack.callback(documents.close)
    prober = Prober(documents.find)
    stack.callback(prober.stop)
    trickle = Trickle(database, data.impressions, prober.expect, rate=chosen.rate)
    stack.callback(trickle.stop)
    indexed_before = sum(watcher.look().documents.values())
    began = time.monotonic()
    worker.start()
    try:
        wait_for_rest(worker, watcher, timeout=60)
        console.print(TRY.format(rest=rest, elasticsearch=elasticsearch, log=worker.log))
        run = DemoRun(console, worker, watcher, trickle, prober, loaded, indexed_before, began)
        if not chosen.once:
            watch(run)
        with Elasticsearch(elasticsearch) as client:
            code = prove(run, database, client, trickle_for=chosen.trickle, timeout=chosen.timeout)
        if code == 0:
            show_monitoring(console, rest, environment, chosen.pack)
    except HeadraceError:
        _show_log(console, worker)
        raise
    if code:
        _show_log(console, worker)
    return code


def show_monitoring(console: Console, rest: str, environment: Mapping[str, str], pack: Path) -> None:
    """Print the time at each hop as the worker tells it, and write the dashboards with their pictures."""
    console.print("time at each hop, median of the last batches:")
    for line in hop_lines(read_freshness(rest)):
        console.print(line)
    console.print(write_pack(environment, pack).rstrip())
    console.print(f"dashboards for Kibana are in {pack}, pictures of their data in {pack / 'pictures'}")


def _show_log(console: Console, worker: DemoWorker) -> None:
    console.print(f"\nthe end of {worker.log}:\n{worker.tail()}\n")


def _folder(chosen: argparse.Namespace, console: Console, stack: ExitStack) -> Path:
    if chosen.data:
        folder: Path = chosen.data.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    folder = Path(tempfile.mkdtemp(prefix="headrace-demo-"))
    if chosen.keep:
        stack.callback(console.print, f"kept: {folder}")
    else:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
