"""The pipeline on a cluster, from here: a recipe is checked, sent and followed, and its outcome told.

The run belongs to Kubeflow Pipelines. Ending this process ends nothing there.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.compile import compile_pipeline
from pipelines.pods import PodSettings
from pipelines.remote import Event, Kubeflow, RunRequest, follow
from softprompt.display import STEPS
from softprompt.errors import InvalidRecipe, InvalidRequest, SoftpromptError
from softprompt.recipe import Recipe
from softprompt.recipe.prompt import PromptInit
from softprompt.recipe.reader import read_recipe
from softprompt.registry_runs import RecordedRun, recorded_run
from softprompt.resolve import Overrides, apply_overrides, find_recipe, packaged_recipes
from softprompt.run_summary import EXIT_CODES
from softprompt.settings import Settings

MOST_RECIPE_BYTES = 48 * 1024
"""Of a recipe's text. Steps hand it on, resolved, as one argument of a command, and Linux takes 128 KiB of one."""
SECONDS_OF = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants of a cluster.

    Attributes:
        recipe: The recipe with its overrides.
        request: What the server is asked for.
        package: What to run; None: the pipeline of this version, with the usual pods and the policy of the recipe's channel.
    """

    recipe: Recipe
    request: RunRequest
    package: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a run on a cluster ended.

    Attributes:
        run_id: Its id in KFP.
        page: Its page in the Kubeflow UI.
        verdict: `passed`, `rejected`, `undecided`; empty: the registry was not there to say, and nothing was rejected.
        recorded: What the registry knows; None: it was not there to say.
        note: Why not.
    """

    run_id: str
    page: str
    verdict: str
    recorded: RecordedRun | None
    note: str = ""

    @property
    def exit_code(self) -> int:
        """0 done, 4 the gates rejected, 6 they could not decide."""
        return EXIT_CODES.get(self.verdict, 0)


def wish_for(recipe: str, overrides: Mapping[str, Any], *, package: Path | None = None, **how: Any) -> Wish:
    """What to send for a recipe, checked before anything is sent.

    Args:
        recipe: A packaged name, or a file here, whose text is sent.
        overrides: Pipeline parameters other than the recipe; empty values change nothing.
        package: As in `Wish`.
        **how: Further fields of `RunRequest`; `experiment` and `name` have defaults.

    Raises:
        InvalidRecipe: It is wrong, too long, or names files of this machine, which no pod can read.
    """
    text, source, folder = find_recipe(recipe)
    written = read_recipe(text, source=source)
    known = {key: value for key, value in overrides.items() if key in Overrides.model_fields}
    wished = apply_overrides(written, Overrides(**known), folder)
    packaged = recipe in packaged_recipes()
    if not packaged:
        _refuse_local_files(written, source)
    if len(text.encode()) > MOST_RECIPE_BYTES:
        raise InvalidRecipe(
            "The recipe is too long to be handed from step to step.",
            where=source,
            expected=f"at most {MOST_RECIPE_BYTES:,} bytes",
            actual=f"{len(text.encode()):,} bytes",
            hint="Take out what is not needed, or put the recipe into the image and submit its file:// URI.",
        )
    sent = recipe if packaged else text.rstrip("\n") + "\n"
    named = {"experiment": wished.name, "name": f"{wished.name} {time.strftime('%Y-%m-%d %H:%M:%S')}"}
    given = {key: value for key, value in how.items() if value != ""}
    request = RunRequest(arguments={"recipe": sent} | dict(overrides), **(named | given))
    return Wish(recipe=wished, request=request, package=package)


def start(kubeflow: Kubeflow, wish: Wish) -> str:
    """Start a run; returns its id. Raises as `Kubeflow.start` does."""
    with _package(wish) as package:
        return kubeflow.start(package, wish.request)


def repeat(kubeflow: Kubeflow, wish: Wish, *, every: str = "", cron: str = "") -> str:
    """Have a run started again and again, such as to retrain on what the dataset's URI has by then; returns an id.

    Args:
        kubeflow: The server.
        wish: What to run; its name is the recurring run's.
        every: Such as `12h`, `7d`.
        cron: Five fields (minute first), or KFP's six (second first).

    Raises:
        InvalidRequest: The time cannot be read, or there is such a recurring run.
    """
    at, seconds = with_seconds(cron) if cron else "", seconds_of(every) if every else 0
    with _package(wish) as package:
        return kubeflow.repeat(package, wish.request, cron=at, every_seconds=seconds)


def watch(
    kubeflow: Kubeflow, run_id: str, settings: Settings, on_event: Callable[[Event], None], *, interval_seconds: float = 5.0
) -> Outcome:
    """Follow a run to its end.

    Args:
        kubeflow: The server.
        run_id: Of the run.
        settings: Where the registry is.
        on_event: Called as things happen.
        interval_seconds: Between two looks.

    Raises:
        RunFailed: The run failed.
        PipelinesUnavailable: The server is away for minutes.
    """
    look = follow(kubeflow, run_id, STEPS, on_event, interval_seconds=interval_seconds)
    recorded, note = _recorded(settings, run_id)
    verdict = recorded.verdict if recorded else "rejected" if look.steps.get("explain_rejection") == "SUCCEEDED" else ""
    return Outcome(run_id, kubeflow.server.page_of(run_id), verdict, recorded, note)


def seconds_of(duration: str) -> int:
    """`30m`, `12h`, `7d`, `2w` in seconds. InvalidRequest: another form."""
    number, unit = duration[:-1], duration[-1:]
    if not number.isdecimal() or unit not in SECONDS_OF or int(number) == 0:
        raise InvalidRequest(
            "This is not a time between runs.", where="--every", expected="a number and m, h, d or w: 12h, 7d", actual=duration
        )
    return int(number) * SECONDS_OF[unit]


def with_seconds(cron: str) -> str:
    """A cron expression in KFP's six fields. InvalidRequest: it has neither five nor six."""
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise InvalidRequest(
            "This is not a cron expression.",
            where="--cron",
            expected='five fields (minute hour day month weekday), such as "0 3 * * 1", or six with the second first',
            actual=cron,
        )
    return " ".join(["0", *fields] if len(fields) == 5 else fields)


@contextmanager
def _package(wish: Wish) -> Iterator[Path]:
    """The package that is sent."""
    if wish.package:
        if not wish.package.is_file():
            raise InvalidRequest("There is no such package.", where=str(wish.package), hint="`softprompt compile` writes one.")
        yield wish.package
        return
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "prompt-tuning.yaml"
        compile_pipeline(package, PodSettings(channels=(wish.recipe.channel,)))
        yield package


def _recorded(settings: Settings, run_id: str) -> tuple[RecordedRun | None, str]:
    """What the registry says, or why it does not."""
    if not settings.tracking_uri.startswith("http"):
        return None, "MLFLOW_TRACKING_URI is not set here, so the verdict is on the run's page only"
    try:
        found = recorded_run(settings.tracking_uri, settings.tracking_page, run_id)
    except SoftpromptError as error:
        return None, f"the registry did not answer: {error.actual or error.what}"
    return found, "" if found else "the registry knows nothing of this run"


def _refuse_local_files(recipe: Recipe, source: str) -> None:
    """A path counts from the recipe's folder, which is on this machine."""
    starts = [recipe.prompt.init, *(candidate.init for candidate in recipe.training.candidates)]
    places = {
        "base_model.uri": recipe.base_model.uri,
        "dataset.uri": recipe.dataset.uri,
        "dataset.test_uri": recipe.dataset.test_uri,
        "dataset.reference": recipe.dataset.reference,
        "evaluation.earlier": recipe.evaluation.earlier,
        "evaluation.paraphrases": recipe.evaluation.paraphrases,
        "prompt.init.uri": next((init.uri for init in starts if isinstance(init, PromptInit)), ""),
    }
    local = [key for key, place in places.items() if place and "://" not in place]
    if local:
        raise InvalidRecipe(
            "The recipe names files of this machine, which the cluster's pods cannot read.",
            where=f"{source}, {', '.join(local)}",
            expected="a URI that pods reach: s3://, hf://, https://, or file:// of something in the image",
            hint="Upload the files, and name their URI.",
        )
