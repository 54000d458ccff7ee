"""What a run asks of the channel it is meant for: the champion before the work, the publish after it."""

from collections.abc import Mapping
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.data.dataset import read_manifest
from softprompt.data.input_digests import seen_inputs
from softprompt.deployment import channel_reader
from softprompt.release.layout import blob_key
from softprompt.release.planning.policy import read_policy
from softprompt.release.publish_prompt import PublishOutcome, publish_prompt
from softprompt.release.statement import Served, Verdict
from softprompt.release.store import open_store, probe_conditional_writes
from softprompt.resolve import Overrides, ResolvedChampion, ResolvedFile, ResolvedRecipe, resolve_recipe
from softprompt.settings import Settings

PROFILE_FILE = "dataset_profile.json"
"""Name under which the profile of a prompt's dataset is evidence."""
SEEN_INPUTS_FILE = "seen_inputs.bin"
"""Name under which the digests of the inputs that a prompt was tuned on are evidence."""
GATE_REPORT_FILE = "gate_report.json"
"""Name under which a prompt's evaluation is evidence."""
RECIPE_FILE = "recipe.json"
"""Name under which the recipe that a prompt was made by is evidence: what `softprompt retune` starts from."""


def prepare_run(recipe: str, overrides: Overrides, settings: Settings) -> ResolvedRecipe:
    """Resolve a recipe, and find out before the work whether the channel it is meant for can be published to.

    Raises:
        InvalidRecipe: The recipe is wrong.
        InvalidRequest: Its channel has no policy here.
        StoreUnavailable: The store does not answer, or ignores conditional writes.
    """
    resolved = resolve_recipe(recipe, overrides)
    name, channel = resolved.recipe.name, resolved.recipe.channel
    policy = read_policy(settings.policies, channel)
    store = open_store(settings.store)
    if policy.authority == "pipeline":
        probe_conditional_writes(store)
    state = channel_reader(settings, channel, store).refresh().statement.state
    champion = champion_of(state.prompts.get(name), resolved.base.fingerprint)
    if not champion:
        return resolved
    evidence = state.approvals[champion].evidence
    reference = resolved.reference or _profile_in(evidence, settings.store)
    file = ResolvedChampion(
        prompt=champion,
        store=settings.store,
        seen_inputs=evidence.get(SEEN_INPUTS_FILE, ""),
        gate_report=evidence.get(GATE_REPORT_FILE, ""),
    )
    return resolved.model_copy(update={"champion": champion, "champion_file": file, "reference": reference})


def champion_of(served: Served | None, base_fingerprint: str) -> str:
    """Digest of what a name means now: on this base model the prompt with the largest weight, else one of another base model's.

    A prompt of another base model is not asked, but what it answered when it was evaluated stands in its evidence.
    """
    bases = served.bases if served else {}
    shares = bases.get(base_fingerprint) or next((bases[base] for base in sorted(bases) if bases[base]), ())
    return max(shares, key=lambda share: share.weight).prompt if shares else ""


def dataset_evidence(dataset: Path) -> dict[str, bytes]:
    """What of a dataset artifact is evidence of a prompt that was tuned on it, file name -> bytes.

    Its profile, which later datasets are compared with, and the digests of the inputs that the prompt has seen, which later test
    rows are held against; the latter not for datasets of many millions of rows.
    """
    profile, seen = read_manifest(dataset).profile, seen_inputs(dataset)
    found = {PROFILE_FILE: profile.to_bytes() if profile else None, SEEN_INPUTS_FILE: seen}
    return {name: data for name, data in found.items() if data is not None}


def _profile_in(evidence: Mapping[str, str], store: str) -> ResolvedFile | None:
    """Where the profile of a prompt's dataset lies, if its evidence has one."""
    digest = evidence.get(PROFILE_FILE)
    return ResolvedFile(uri=f"{store.rstrip('/')}/{blob_key(digest)}", sha256=digest) if digest else None


def publish_run(
    resolved: ResolvedRecipe,
    prompt: Path,
    evidence: Mapping[str, bytes],
    settings: Settings,
    *,
    verdict: Verdict,
    evaluated: str,
    model_version: str,
) -> PublishOutcome:
    """Publish a run's prompt, or propose it, as the policy of its channel says.

    Args:
        resolved: The recipe; names the channel and the prompt.
        prompt: Directory of the prompt file.
        evidence: File name -> bytes.
        settings: Where store, policy and keys are.
        verdict: Of the gates.
        evaluated: When they measured, RFC 3339.
        model_version: Version in MLflow.
    """
    recipe = resolved.recipe
    return publish_prompt(
        prompt=PromptFile.read(prompt),
        name=recipe.name,
        channel=recipe.channel,
        verdict=verdict,
        evidence=evidence,
        model_version=model_version,
        numerics=recipe.base_model.dtype,
        store=open_store(settings.store),
        policy_dir=settings.policies,
        trust_root=settings.trust_root,
        signing_key=settings.signing_key(recipe.channel) if settings.may_sign(recipe.channel) else None,
        state_dir=settings.journal,
        evaluated=evaluated,
    )
