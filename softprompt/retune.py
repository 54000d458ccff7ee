"""Bring every prompt of a channel to another base model: each one's recipe is run again there, and who passes is told.

A prompt works only on the base it was tuned on, so a fleet that gets a new base needs new prompts before. What a prompt was made
by stands in its evidence; where it does not, in the registry. Training starts from the old prompt where that could be a prompt of
the new base, and gates against the champion compare with what the old one answered on its own base. What is served on other bases
stays served: a channel's name has its prompts base by base.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.remote import Kubeflow, RunRequest
from softprompt.deployment import channel_reader
from softprompt.documents import Document
from softprompt.errors import InvalidRequest, SoftpromptError
from softprompt.evaluation.gate_report import GateReport
from softprompt.fetch import absolute_uri, fetch_base
from softprompt.fetch.cache import cache_folder
from softprompt.fetch.published import published_uri
from softprompt.fingerprint import fingerprint
from softprompt.laptop_run import run_on_laptop
from softprompt.recipe import Recipe
from softprompt.recipe.prompt import PromptInit
from softprompt.recipe.reader import read_recipe
from softprompt.registry_runs import recipe_of_version
from softprompt.release.blobs import MAX_EVIDENCE_BYTES, Blobs
from softprompt.release.statement import ChannelState
from softprompt.release.store import open_store
from softprompt.run_channel import GATE_REPORT_FILE, RECIPE_FILE, champion_of
from softprompt.settings import Settings
from softprompt.submit import Wish, start, watch

WORST_FIRST = (1, 7, 5, 3, 2, 4, 6)
"""Exit codes, the one that a person should hear of first."""


@dataclass(frozen=True)
class Retuning:
    """A prompt that is to be brought to another base.

    Attributes:
        name: Of the prompt.
        prompt: Digest of the one that is served now.
        base_before: URI of the base that it was made on.
        recipe: What it was made by, with the new base and the old prompt as a start.
        score: What the old one reached on its test rows, by the task's first metric; None: its evidence does not say.
        metric: That metric; empty: not known.
    """

    name: str
    prompt: str
    base_before: str
    recipe: Recipe
    score: float | None
    metric: str

    @property
    def text(self) -> str:
        """The recipe as a pipeline takes it."""
        return json.dumps(self.recipe.model_dump(mode="json", exclude_none=True), indent=1) + "\n"


class RetuneResult(Document):
    """What became of one prompt."""

    name: str
    outcome: str
    """`passed`, `rejected`, `undecided`, `failed`, `skipped`; `started` where nobody followed the run, `not rejected` where the
    registry was not there to say more."""
    note: str = ""
    """Why it failed or was left out; where it is served."""
    started_from: str = ""
    """`prompt` or `frequent_tokens`; empty where the run's log says it."""
    metric: str = ""
    score_before: float | None = None
    score: float | None = None
    version: str = ""
    """In the registry."""
    page: str = ""
    """The run's page in the Kubeflow UI, or its report here."""
    exit_code: int = 0


class RetuneReport(Document):
    """What became of all prompts of a channel."""

    schema_version: int = 1
    channel: str
    base_model: str
    results: tuple[RetuneResult, ...]

    @property
    def exit_code(self) -> int:
        """0: each one passed or has a prompt there already. Else the worst of theirs."""
        codes = {result.exit_code for result in self.results}
        return next((code for code in WORST_FIRST if code in codes), 0)


def find_retunings(
    settings: Settings,
    channel: str,
    base_model: str,
    *,
    names: Sequence[str] = (),
    again: bool = False,
    look_at_base: bool = True,
) -> tuple[list[Retuning], list[RetuneResult]]:
    """What has to be tuned for a base, and what is left out.

    Args:
        settings: Where store, trust root and registry are.
        channel: Whose prompts.
        base_model: URI of the new base.
        names: Of these only; empty: of all.
        again: Also names that have a prompt of this base.
        look_at_base: Whether the base can be read here: then what it is counts, else what it is called.

    Raises:
        InvalidRequest: No such channel, or it serves none of these names.
        BaseModelUnavailable: There is no such base.
        StoreUnavailable, VerificationFailed: The channel cannot be read.
    """
    state = channel_reader(settings, channel).refresh().statement.state
    if missing := set(names) - set(state.prompts):
        raise InvalidRequest(
            "The channel serves no such name.",
            where=channel,
            expected=f"among {', '.join(sorted(state.prompts)) or 'none: it serves nothing'}",
            actual=", ".join(sorted(missing)),
        )
    new = fingerprint(fetch_base(base_model), cache=cache_folder()) if look_at_base else ""
    wanted, left = [], []
    for name in sorted(names or state.prompts):
        try:
            found = _retuning(settings, state, name, base_model)
        except SoftpromptError as error:
            left.append(RetuneResult(name=name, outcome="failed", note=_sentence(error), exit_code=error.exit_code))
            continue
        there = new in state.prompts[name].bases or (not new and found.base_before == base_model)
        if there and not again:
            left.append(RetuneResult(name=name, outcome="skipped", note="the channel serves it on this base model already"))
        else:
            wanted.append(found)
    return wanted, left


def retune_here(retuning: Retuning, settings: Settings, console: Console) -> RetuneResult:
    """Run one recipe on this machine; what goes wrong is a result, so that the next one has its turn."""
    started: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        if event.get("start"):
            started.append(str(event["start"]))

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{retuning.name}.yaml"
        file.write_text(retuning.text)
        try:
            summary = run_on_laptop({"recipe": str(file)}, settings, console, hear)
        except SoftpromptError as error:
            return _failed(retuning, error)
    where = f"{summary.channel}, generation {summary.generation}" if summary.generation else summary.publication
    soft = summary.metrics["soft_prompt"]
    return _result(
        retuning,
        outcome=summary.verdict,
        note="; ".join(part for part in (where, *summary.publication_reasons) if part),
        started_from=started[-1] if started else "",
        score=next((value for metric, value in soft.items() if metric == retuning.metric), None),
        version=summary.version,
        page=summary.report,
        exit_code=summary.exit_code,
    )


def retune_there(
    retunings: Sequence[Retuning],
    kubeflow: Kubeflow,
    settings: Settings,
    tell: Callable[[str], None],
    *,
    package: Path | None = None,
    service_account: str = "",
    follows: bool = True,
    interval_seconds: float = 5.0,
) -> list[RetuneResult]:
    """Start a run on Kubeflow Pipelines for each recipe, all at once, and follow them to their ends.

    Args:
        retunings: What to run.
        kubeflow: The server.
        settings: Where the registry is.
        tell: Receives a line for a person.
        package: What to run; None: the pipeline of this version.
        service_account: Of the runs; empty: the server's default.
        follows: Whether to wait for them.
        interval_seconds: Between two looks.
    """
    runs: dict[str, str] = {}
    results: dict[str, RetuneResult] = {}
    for retuning in retunings:
        request = RunRequest(
            arguments={"recipe": retuning.text},
            experiment=retuning.name,
            name=f"{retuning.name} on {retuning.recipe.base_model.uri}",
            service_account=service_account,
        )
        wish = Wish(recipe=retuning.recipe, request=request, package=package)
        try:
            runs[retuning.name] = start(kubeflow, wish)
        except SoftpromptError as error:
            results[retuning.name] = _failed(retuning, error)
            continue
        page = kubeflow.server.page_of(runs[retuning.name])
        tell(f"{retuning.name}: {page}")
        results[retuning.name] = _result(retuning, outcome="started", page=page)
    for retuning in retunings if follows else ():
        if run_id := runs.get(retuning.name):
            results[retuning.name] = _followed(retuning, kubeflow, run_id, settings, interval_seconds)
            tell(f"{retuning.name}: {results[retuning.name].outcome}")
    return [results[retuning.name] for retuning in retunings]


def _followed(retuning: Retuning, kubeflow: Kubeflow, run_id: str, settings: Settings, interval_seconds: float) -> RetuneResult:
    page = kubeflow.server.page_of(run_id)
    try:
        outcome = watch(kubeflow, run_id, settings, lambda event: None, interval_seconds=interval_seconds)
    except SoftpromptError as error:
        return _failed(retuning, error).model_copy(update={"page": page})
    recorded = outcome.recorded
    return _result(
        retuning,
        outcome=outcome.verdict or "not rejected",
        note=outcome.note or (recorded.reason if recorded else ""),
        score=recorded.metrics.get(retuning.metric) if recorded else None,
        version=recorded.version if recorded else "",
        page=page,
        exit_code=outcome.exit_code,
    )


def _retuning(settings: Settings, state: ChannelState, name: str, base_model: str) -> Retuning:
    """One name's recipe on the new base."""
    prompt = champion_of(state.prompts[name], "")
    approval, blobs = state.approvals[prompt], Blobs(open_store(settings.store))
    made_by = _recipe(settings, blobs, name, approval.evidence.get(RECIPE_FILE, ""), approval.model_version)
    score, metric = _score(blobs, approval.evidence.get(GATE_REPORT_FILE, ""))
    init = PromptInit(method="prompt", uri=published_uri(settings.store, prompt), any_base=True)
    content = made_by.model_dump(mode="json")
    content["base_model"]["uri"] = absolute_uri(base_model, Path.cwd())
    content["prompt"]["init"] = init.model_dump(mode="json")
    # Written and read again: what does not fit together is told as it is of a file.
    recipe = read_recipe(json.dumps(content, indent=1), source=f"recipe of {name}")
    before = made_by.base_model.uri
    return Retuning(name=name, prompt=prompt, base_before=before, recipe=recipe, score=score, metric=metric)


def _recipe(settings: Settings, blobs: Blobs, name: str, digest: str, version: str) -> Recipe:
    """What a prompt was made by: out of its evidence, else out of the registry."""
    if digest:
        return Recipe.from_bytes(blobs.read(digest, max_bytes=Recipe.max_bytes), source=f"recipe of {name}")
    if found := recipe_of_version(settings.tracking_uri, name, version):
        return found
    raise InvalidRequest(
        "Nobody knows the recipe of this prompt any more.",
        where=f"{name} version {version}" if version else name,
        expected=f"{RECIPE_FILE} in its evidence, or a run in the registry",
        hint="Run its recipe file with --base-model instead.",
    )


def _score(blobs: Blobs, digest: str) -> tuple[float | None, str]:
    """The old prompt's first measurement, and of what."""
    if not digest:
        return None, ""
    report = GateReport.from_bytes(blobs.read(digest, max_bytes=MAX_EVIDENCE_BYTES), source="gate report")
    metric = report.metrics[0]
    found = report.value("soft_prompt", metric)
    return (found.estimate if found else None), metric


def _failed(retuning: Retuning, error: SoftpromptError) -> RetuneResult:
    return _result(retuning, outcome="failed", note=_sentence(error), exit_code=error.exit_code)


def _result(retuning: Retuning, **found: Any) -> RetuneResult:
    return RetuneResult(name=retuning.name, metric=retuning.metric, score_before=retuning.score, **found)


def _sentence(error: SoftpromptError) -> str:
    return " ".join(f"{error.what} {error.actual}".split())
