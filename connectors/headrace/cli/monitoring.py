"""``headrace monitoring``: files for Prometheus and Grafana."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli.output import err
from headrace.monitoring.alert_rules import AlertOptions, rules_file
from headrace.monitoring.grafana_dashboard import dashboard_file

app = typer.Typer(
    name="monitoring",
    help="Write alert rules for Prometheus and a dashboard for Grafana over the metrics of workers.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; by default standard output.")
]
_DEFAULTS = AlertOptions()


@app.command()
def rules(
    output: Output = None,
    job: Annotated[str, typer.Option("--job", help="`job_name` of the workers in Prometheus.")] = _DEFAULTS.job,
    pending: Annotated[
        str, typer.Option("--pending", metavar="1m", help="How long a failure lasts before it is an alert.")
    ] = _DEFAULTS.pending,
    patience: Annotated[
        str,
        typer.Option("--patience", metavar="10m", help="The same for what may end by itself: retries, lags."),
    ] = _DEFAULTS.patience,
    window: Annotated[
        str, typer.Option("--window", metavar="15m", help="Time over which dead letters and failed commits count.")
    ] = _DEFAULTS.window,
    lag: Annotated[int, typer.Option("--lag", help="Records that a sink may be behind.")] = _DEFAULTS.lag,
    position_lag: Annotated[
        float, typer.Option("--position-lag", metavar="SECONDS", help="How far a stored position may be behind.")
    ] = _DEFAULTS.position_lag,
) -> None:
    """Write the alert rules, for `rule_files` of Prometheus.

    headrace monitoring rules --output headrace-rules.yml
    """
    _write(output, rules_file(AlertOptions(job, pending, patience, window, lag, position_lag)))


@app.command()
def grafana(output: Output = None) -> None:
    """Write the dashboard, for Grafana's import.

    headrace monitoring grafana --output headrace.json
    """
    _write(output, dashboard_file())


def _write(output: Path | None, text: str) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text, encoding="utf-8")
    err.print(f"wrote {output}", markup=False)
