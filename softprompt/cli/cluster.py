"""Commands about the pipeline on a cluster: what is uploaded, and runs that are started from here."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from softprompt.cli.app import app
from softprompt.cli.terminal import (
    Base,
    Channel,
    Kind,
    NumTokens,
    NumWorkers,
    Seed,
    absolute,
    console,
    print_table,
    problems,
    readable_errors,
    refuse_missing_folders,
)
from softprompt.errors import InvalidRequest
from softprompt.settings import Settings

if TYPE_CHECKING:
    from pipelines.remote import Kubeflow
    from softprompt.retune import RetuneReport
    from softprompt.submit import Outcome

Host = Annotated[
    str, typer.Option("--host", help="URL of Kubeflow Pipelines' API.", metavar="URL", show_default="$KF_PIPELINES_ENDPOINT")
]
Ui = Annotated[
    str,
    typer.Option(
        "--ui", help="URL of the Kubeflow UI, for links.", metavar="URL", show_default="$KF_PIPELINES_UI_ENDPOINT, or the host"
    ),
]
Namespace = Annotated[
    str, typer.Option("--namespace", help="Of the runs, on a Kubeflow of several users.", show_default="the server's only one")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file", help="File with a bearer token, read again before each request.", show_default="$SOFTPROMPT_KFP_TOKEN"
    ),
]
Package = Annotated[
    Path | None,
    typer.Option("--package", help="What `softprompt compile` wrote.", metavar="FILE", show_default="this version's pipeline"),
]
ServiceAccount = Annotated[
    str, typer.Option("--service-account", help="That all steps of the run have.", show_default="the server's default")
]


@app.command(
    "compile", epilog="Example: [bold]softprompt compile prompt-tuning.yaml --image registry.example/steps@sha256:...[/]"
)
def compile_(
    package: Annotated[Path, typer.Argument(help="File to write.")] = Path("prompt-tuning.yaml"),
    image: Annotated[str, typer.Option(help="Image of every step, best by digest.", show_default="the release's, by tag")] = "",
    config_map: Annotated[
        str | None, typer.Option("--config-map", help="ConfigMap with the steps' variables.", show_default="softprompt-pipeline")
    ] = None,
    secret: Annotated[
        str | None,
        typer.Option(
            "--secret",
            help="Secret with their secret variables; '' for the ServiceAccount's workload identity.",
            show_default="softprompt-pipeline",
        ),
    ] = None,
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="A channel that recipes may name; may be given several times.")
    ] = None,
    pods: Annotated[
        Path | None,
        typer.Option(
            "--pods", help="YAML: resources, retries, time limits, nodes, step by step (docs/cluster.md).", metavar="FILE"
        ),
    ] = None,
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Write the objects Pipeline and PipelineVersion instead, for GitOps.")
    ] = False,
    namespace: Annotated[str, typer.Option("--namespace", help="Of these objects: where KFP runs.", show_default="none")] = "",
) -> None:
    """Write the pipeline as the package that Kubeflow Pipelines runs.

    Upload it in the Kubeflow UI or with `kfp pipeline create`, submit a recipe to it with `softprompt submit --package`, or
    commit the objects of --kubernetes.
    """
    from pipelines.compile import compile_pipeline

    with readable_errors():
        refuse_missing_folders(package)
        settings = _pod_settings(
            pods, image=image or None, config_map=config_map, secret=secret, channels=tuple(channel or ()) or None
        )
        compile_pipeline(package, settings, form="kubernetes" if kubernetes else "package", namespace=namespace)
        console.print(f"wrote {package}", markup=False, highlight=False, soft_wrap=True)
        if "@sha256:" not in settings.image:
            problems.print(
                f"The steps' image is {settings.image}: a tag can come to mean another image, and KFP's cache would not notice. "
                "Name it by digest, as in --image REPOSITORY@sha256:...",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


@app.command(
    epilog="Examples: [bold]softprompt submit my-recipe.yaml --host http://localhost:8888[/] · "
    '[bold]softprompt submit my-recipe.yaml --host ... --cron "0 3 * * 1"[/]'
)
def submit(
    recipe: Annotated[str, typer.Argument(help="A recipe file, whose text is sent, or the name of a packaged one.")],
    host: Host = "",
    ui: Ui = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    experiment: Annotated[str, typer.Option(help="Of the run.", show_default="the prompt's name")] = "",
    name: Annotated[str, typer.Option(help="Of the run.", show_default="the prompt's name and the time")] = "",
    package: Package = None,
    service_account: ServiceAccount = "",
    pipeline_root: Annotated[
        str, typer.Option("--pipeline-root", help="Where KFP puts artifacts.", show_default="the server's default")
    ] = "",
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Take results of earlier steps with the same inputs.")] = True,
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="Follow the run to its end.")] = True,
    every: Annotated[str, typer.Option(help="Start it again and again, every 12h, 7d, ...: retraining.", metavar="TIME")] = "",
    cron: Annotated[str, typer.Option(help="The same by the clock: minute hour day month weekday.", metavar="FIELDS")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the outcome to this file.", metavar="FILE")] = None,
    base_model: Base = "",
    dataset: Annotated[str, typer.Option(help="Another dataset: a URI that pods reach.")] = "",
    channel: Channel = "",
    kind: Kind = "",
    num_tokens: NumTokens = 0,
    seed: Seed = -1,
    num_workers: NumWorkers = 0,
) -> None:
    """Run a recipe on Kubeflow Pipelines, follow it, and print where to look.

    The recipe is checked here first. Ctrl-C leaves the run running. Exit codes are those of `softprompt run`, where
    MLFLOW_TRACKING_URI says where the registry is; a failed run ends with 5, and its step's log says why.
    """
    from pipelines.remote import Kubeflow, Server
    from softprompt.submit import repeat, start, wish_for

    with readable_errors():
        refuse_missing_folders(json_file)
        if every and cron:
            raise InvalidRequest("Say when in one way.", expected="--every or --cron")
        if dataset and "://" not in dataset:
            raise InvalidRequest("Pods cannot read a path of this machine.", where=f"--dataset {dataset}", expected="a URI")
        overrides = {
            "base_model": base_model,
            "channel": channel,
            "dataset": dataset,
            "num_tokens": num_tokens,
            "num_workers": num_workers,
            "prompt_kind": kind,
            "seed": seed,
        }
        wish = wish_for(
            recipe,
            overrides,
            package=package,
            experiment=experiment,
            name=name or ("retrain" if every or cron else ""),
            service_account=service_account,
            pipeline_root=pipeline_root,
            use_cache=cache,
        )
        kubeflow = Kubeflow(Server(host=host, ui=ui, namespace=namespace, token_file=token_file))
        if every or cron:
            made = repeat(kubeflow, wish, every=every, cron=cron)
            what = f"{wish.request.name} in experiment {wish.request.experiment}"
            _print_facts({"recurring run": what, "id": made, "server": kubeflow.server.url})
            return
        run_id = start(kubeflow, wish)
        _print_facts({"run": wish.request.name, "page": kubeflow.server.page_of(run_id)})
        if watch:
            outcome = _watch(kubeflow, run_id)
            if json_file:
                json_file.write_text(json.dumps(_content(outcome), indent=2) + "\n")
            _print_outcome(outcome)
            raise typer.Exit(outcome.exit_code)


@app.command(
    epilog="Examples: [bold]softprompt retune --base s3://models/new --channel staging[/] · "
    "[bold]softprompt retune --base s3://models/new --channel staging --host http://localhost:8888[/]"
)
def retune(
    base: Annotated[str, typer.Option("--base", help="The new base model: embedded://, file://, s3://, hf:// or a path.")],
    channel: Annotated[str, typer.Option("--channel", help="Whose prompts.")] = "laptop",
    name: Annotated[list[str] | None, typer.Option("--name", help="Only this prompt; may be given several times.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Also prompts that the channel serves on this base already.")] = False,
    host: Annotated[
        str, typer.Option("--host", help="URL of Kubeflow Pipelines' API.", metavar="URL", show_default="none: run them here")
    ] = "",
    ui: Ui = "",
    namespace: Namespace = "",
    token_file: TokenFile = None,
    package: Package = None,
    service_account: ServiceAccount = "",
    watch: Annotated[bool, typer.Option("--watch/--no-watch", help="With --host: follow the runs to their ends.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the report to this file.", metavar="FILE")] = None,
) -> None:
    """Bring all prompts of a channel to a new base model, each by its own recipe, and tell which pass.

    Training starts from the old prompt where its widths fit the new base. Prompts of other bases stay as they are. Without
    --host the recipes are run here, one after the other; with it they are runs of Kubeflow Pipelines, all at once.
    Ends with 0 if each one passed, else with the code of the worst.
    """
    from pipelines.remote import Kubeflow, Server
    from softprompt.deployment import laptop
    from softprompt.retune import RetuneReport, find_retunings, retune_here, retune_there

    with readable_errors():
        refuse_missing_folders(json_file)
        uri, settings = absolute(base) if "://" in base or not host else base, Settings.from_environment()
        uri = uri if "://" in uri else Path(uri).as_uri()
        with laptop(settings):
            far = Kubeflow(Server(host=host, ui=ui, namespace=namespace, token_file=token_file)) if host else None
            wanted, results = find_retunings(settings, channel, uri, names=name or (), again=again, look_at_base=far is None)
            if far:
                results += retune_there(
                    wanted, far, settings, _say, package=package, service_account=service_account, follows=watch
                )
            for retuning in () if far else wanted:
                _say(f"{retuning.name}: tuning for {uri}")
                results.append(retune_here(retuning, settings, console))
        report = RetuneReport(channel=channel, base_model=uri, results=tuple(sorted(results, key=lambda one: one.name)))
        if json_file:
            json_file.write_text(json.dumps(report.model_dump(mode="json"), indent=2) + "\n")
        _print_retuned(report)
    raise typer.Exit(report.exit_code)


def _print_retuned(report: "RetuneReport") -> None:
    """A line a prompt."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("prompt", "outcome", "score before", "score", "started from", "version", "note"):
        table.add_column(title)
    colours = {"passed": "green", "rejected": "red", "failed": "red", "undecided": "yellow"}
    for found in report.results:
        before, score = (f"{value:.3f}" if value is not None else "" for value in (found.score_before, found.score))
        cells = (before, score, found.started_from.replace("_", " "), found.version, found.note)
        colour = colours.get(found.outcome, "dim")
        table.add_row(escape(found.name), f"[{colour}]{found.outcome}[/]", *map(escape, cells))
    console.print()
    print_table(table)


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _pod_settings(file: Path | None, **given: Any) -> Any:
    """The pods' settings: the file's, and what the command line says."""
    from pipelines.pods import PodSettings
    from softprompt.yaml_reader import read_yaml

    if file and not file.is_file():
        raise InvalidRequest("There is no such file.", where=str(file))
    settings = read_yaml(file.read_text(), PodSettings, source=str(file)) if file else PodSettings()
    said = {key: value for key, value in given.items() if value is not None}
    return PodSettings.from_content(settings.model_dump(mode="json", exclude_unset=True) | said, source="the command line")


def _watch(kubeflow: "Kubeflow", run_id: str) -> "Outcome":
    """Follow a run with a live display; Ctrl-C leaves it running."""
    from softprompt.display import PipelineDisplay
    from softprompt.submit import watch

    try:
        with PipelineDisplay(console) as display:
            return watch(kubeflow, run_id, Settings.from_environment(), display)
    except KeyboardInterrupt:
        _left_running(kubeflow, run_id)


def _left_running(kubeflow: "Kubeflow", run_id: str) -> NoReturn:
    problems.print(
        f"not followed any more; the run goes on: {kubeflow.server.page_of(run_id)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    raise typer.Exit(130)


def _content(outcome: "Outcome") -> dict[str, Any]:
    recorded = outcome.recorded.model_dump(mode="json") if outcome.recorded else None
    return {"run_id": outcome.run_id, "page": outcome.page, "verdict": outcome.verdict, "recorded": recorded}


def _print_outcome(outcome: "Outcome") -> None:
    """Verdict, scores, where to look."""
    recorded = outcome.recorded
    colour = {"passed": "green", "rejected": "red", "undecided": "yellow"}.get(outcome.verdict, "")
    console.print()
    if recorded:
        console.print(recorded.reason, style=colour or None, markup=False, highlight=False)
        scores = ", ".join(f"{metric} {value:.3f}" for metric, value in sorted(recorded.metrics.items())[:4])
        registered = f"{recorded.name} version {recorded.version}" if recorded.version else "a run without a version"
        _print_facts({"scores": scores, "registry": registered, "version": recorded.version_url, "MLflow run": recorded.run_url})
    else:
        console.print(outcome.verdict or "done", style=colour or None, highlight=False)
    _print_facts({"run": outcome.page, "note": outcome.note})


def _print_facts(facts: dict[str, str]) -> None:
    for name, fact in facts.items():
        if fact:
            console.print(f"[dim]{name:<14}[/]{escape(fact)}", highlight=False, soft_wrap=True)
