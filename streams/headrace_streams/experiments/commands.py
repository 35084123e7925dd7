"""``headrace experiment``: the commands. What they compute is imported when they run, because numpy is an extra."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace import ConfigError
from headrace_streams.experiments.application_commands import add_commands
from headrace_streams.experiments.command_options import (
    Documents,
    Html,
    Json,
    Outcome,
    Sources,
    Unit,
    WorkerFile,
    command_of,
    require_numpy,
    share_of,
)

app = typer.Typer(
    name="experiment",
    help="Analyse logs of impressions, plan experiments, evaluate versions of an exploration model, and operate them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@app.command()
def analyse(
    context: typer.Context,
    sources: Sources,
    outcome: Outcome = "converted",
    variables: Annotated[
        list[str] | None, typer.Option("--variable", metavar="COLUMN", help="Only these columns. Repeat it.")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="COLUMN", help="Leave this column out. Repeat it.")
    ] = None,
    unit: Unit = "",
    worker: WorkerFile = None,
    json: Json = False,
    documents: Documents = None,
    html: Html = None,
) -> None:
    """Show which variables relate to the outcome, which of them say the same, and propose features for a model.

      headrace experiment analyse impressions.jsonl --outcome converted --unit user_id

    Name only what is known when a survey is selected. Impressions without an outcome yet are left out.
    """
    require_numpy()
    from headrace_streams.experiments import analysis_view, output
    from headrace_streams.experiments.analysis import analyse_log

    log = output.read_log(command_of(context), sources, worker)
    found = analyse_log(log, outcome, variables or [], without or [], unit)
    view = analysis_view.AnalysisView(found)
    output.show(command_of(context), view, output.Targets(json, documents, html))


@app.command()
def evaluate(
    context: typer.Context,
    sources: Sources,
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="COLUMN",
            help="Probability with which the evaluated version selects the logged survey, or an object with that of "
            "each candidate; 'uniform': every candidate with the same.",
        ),
    ],
    outcome: Outcome = "converted",
    propensity: Annotated[
        str, typer.Option("--propensity", metavar="COLUMN", help="Probability of the logged selection.")
    ] = "propensity",
    survey: Annotated[str, typer.Option("--survey", metavar="COLUMN", help="The selected survey.")] = "survey",
    candidates: Annotated[
        str, typer.Option("--candidates", metavar="COLUMN", help="List of the candidates, for --target uniform.")
    ] = "candidates",
    unit: Unit = "",
    worker: WorkerFile = None,
    json: Json = False,
    documents: Documents = None,
    html: Html = None,
) -> None:
    """Estimate what a version would have earned on the log of another one: IPS, SNIPS and doubly robust.

      headrace experiment evaluate selections.jsonl --target shadow.v3 --unit user_id

    Exit code 0 also when there is no verdict; the report says what is missing.
    """
    require_numpy()
    from headrace_streams.experiments import output
    from headrace_streams.experiments.evaluation_view import EvaluationView
    from headrace_streams.experiments.policy_log import LogColumns, evaluate_log

    log = output.read_log(command_of(context), sources, worker)
    columns = LogColumns(outcome, propensity, survey, target, candidates, unit)
    view = EvaluationView(evaluate_log(log, columns), columns, log.source)
    output.show(command_of(context), view, output.Targets(json, documents, html))


@app.command()
def plan(
    context: typer.Context,
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE|TOPIC...]", help="A log, to measure rate and traffic.", show_default=False),
    ] = None,
    rate: Annotated[
        float | None, typer.Option("--rate", parser=share_of, metavar="SHARE", help="Conversion rate, such as 2.5%.")
    ] = None,
    impressions: Annotated[
        float | None, typer.Option("--impressions", metavar="N", help="Impressions a day of the whole experiment.")
    ] = None,
    share: Annotated[
        list[float],
        typer.Option("--share", parser=share_of, metavar="SHARE", help="Traffic of the version. Repeat it."),
    ] = [0.05, 0.2, 0.5],  # noqa: B006
    lift: Annotated[
        list[float], typer.Option("--lift", parser=share_of, metavar="SHARE", help="Relative difference. Repeat it.")
    ] = [0.05, 0.1, 0.2, 0.4],  # noqa: B006
    days: Annotated[float, typer.Option("--days", help="The longest duration.")] = 60,
    alpha: Annotated[float, typer.Option("--alpha", help="Probability of a false verdict.")] = 0.05,
    least_conversions: Annotated[
        float, typer.Option("--least-conversions", help="Of each version, before a verdict.")
    ] = 100,
    design_effect: Annotated[
        float | None, typer.Option("--design-effect", help="Variance with several impressions of a user / without.")
    ] = None,
    outcome: Outcome = "converted",
    unit: Unit = "",
    time: Annotated[str, typer.Option("--time", metavar="COLUMN", help="Time of the impression.")] = "shown_at",
    worker: WorkerFile = None,
    json: Json = False,
    documents: Documents = None,
    html: Html = None,
) -> None:
    """Show how long an experiment takes to find which difference with how much traffic, before it starts.

    headrace experiment plan --rate 2.5% --impressions 20000 --share 5% --share 20%

    headrace experiment plan impressions.jsonl --unit user_id --time shown_at
    """
    require_numpy()
    from headrace_streams.experiments import output
    from headrace_streams.experiments.experiment_plan import make_plan, measure
    from headrace_streams.experiments.plan_view import PlanView
    from headrace_streams.exploration.power import ExperimentDesign

    source = "given on the command line"
    if sources:
        log = output.read_log(command_of(context), sources, worker)
        measured = measure(log, outcome, unit, time)
        source = f"measured in {log.source}"
        rate = measured.rate if rate is None else rate
        impressions = measured.impressions_per_day if impressions is None else impressions
        design_effect = measured.design_effect if design_effect is None else design_effect
    if rate is None or impressions is None:
        raise ConfigError(
            "a plan needs the conversion rate and the impressions a day",
            code="experiment.missing_option",
            hint="give --rate and --impressions, or a log with --time",
        )
    try:
        design = ExperimentDesign(
            rate,
            impressions,
            days,
            0.5,
            0.5,
            alpha,
            0.15,
            least_conversions,
            1.0 if design_effect is None else design_effect,
        )
    except ValueError as error:
        raise ConfigError(f"the experiment cannot be planned: {error}", code="experiment.bad_plan") from error
    view = PlanView(make_plan(design, share, lift), source)
    output.show(command_of(context), view, output.Targets(json, documents, html))


@app.command()
def report(
    context: typer.Context,
    sources: Sources,
    current: Annotated[str, typer.Option("--current", metavar="VERSION", help="The version to compare with.")],
    outcome: Outcome = "converted",
    unit: Annotated[str, typer.Option("--unit", metavar="COLUMN", help="The user.")] = "unit",
    version: Annotated[
        str, typer.Option("--version", metavar="COLUMN", help="The version that the user was assigned to.")
    ] = "assigned",
    time: Annotated[str, typer.Option("--time", metavar="COLUMN", help="Time of the impression.")] = "selected_at",
    predicted: Annotated[
        str, typer.Option("--predicted", metavar="COLUMN", help="Predicted probability, for reliability.")
    ] = "calibrated",
    contributions: Annotated[
        str, typer.Option("--contributions", metavar="COLUMN", help="Object with the contribution of each feature.")
    ] = "contributions",
    share: Annotated[
        list[str] | None,
        typer.Option("--share", metavar="VERSION=SHARE", help="Configured traffic, for the sample ratio. Repeat it."),
    ] = None,
    alpha: Annotated[float, typer.Option("--alpha", help="Probability of a false verdict.")] = 0.05,
    least_conversions: Annotated[
        float, typer.Option("--least-conversions", help="Of each version, before a verdict.")
    ] = 100,
    worker: WorkerFile = None,
    json: Json = False,
    documents: Documents = None,
    html: Html = None,
) -> None:
    """Compare the versions of an experiment: always-valid test, traffic, missed conversions, reliability.

      headrace experiment report labels --worker worker.yaml --current v1 --outcome conversion --html report.html

    The outcome may be the column of a left join: an object is a conversion, null is none.
    """
    require_numpy()
    from headrace_streams.experiments import output
    from headrace_streams.experiments.report_view import ReportView
    from headrace_streams.experiments.version_log import ReportColumns, report_log

    log = output.read_log(command_of(context), sources, worker)
    columns = ReportColumns(outcome, unit, version, time, predicted, contributions)
    found = report_log(
        log, columns, current, shares=_shares(share or []), alpha=alpha, least_conversions=least_conversions
    )
    output.show(command_of(context), ReportView(found), output.Targets(json, documents, html))


def _shares(texts: list[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, equals, share = text.rpartition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not VERSION=SHARE, such as v1=90%", param_hint="--share")
        found[name] = share_of(share)
    return found


add_commands(app)
