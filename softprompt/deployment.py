"""What a run needs from the place it runs in: settings turned into a store, a channel's reader, a publish.

The library below takes stores and paths; this is where the environment's settings become such things, for steps and commands.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.data.dataset import read_manifest
from softprompt.data.input_digests import seen_inputs
from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import InvalidRequest
from softprompt.release.care.init_channel import ROOT_KEY_FILE, allow_audit, init_channel
from softprompt.release.layout import blob_key
from softprompt.release.planning.policy import LAPTOP_POLICY, POLICY_FILE, read_policy
from softprompt.release.publish_prompt import PublishOutcome, publish_prompt
from softprompt.release.reader import Reader
from softprompt.release.statement import Served, Verdict
from softprompt.release.store import S3Store, open_store, probe_conditional_writes
from softprompt.release.trust import load_trust_root
from softprompt.resolve import Overrides, ResolvedChampion, ResolvedFile, ResolvedRecipe, resolve_recipe
from softprompt.settings import Settings

LAPTOP_CHANNEL = "laptop"
PROFILE_FILE = "dataset_profile.json"
"""Name under which the profile of a prompt's dataset is evidence."""
SEEN_INPUTS_FILE = "seen_inputs.bin"
"""Name under which the digests of the inputs that a prompt was tuned on are evidence."""


@contextmanager
def laptop(settings: Settings) -> Iterator[None]:
    """Stand in for what a cluster has: an S3 server and a channel with its keys, unless settings name real ones.

    Child processes find the server through the usual AWS variables.
    """
    settings.home.mkdir(parents=True, exist_ok=True)
    with embedded_s3(settings.home / "s3") if settings.uses_embedded_store else nullcontext() as server:
        before = dict(os.environ)
        os.environ["SOFTPROMPT_HOME"] = str(settings.home)
        if server:
            os.environ.update(server.environment())
            _begin_laptop_channel(settings)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


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
    file = ResolvedChampion(prompt=champion, store=settings.store, seen_inputs=evidence.get(SEEN_INPUTS_FILE, ""))
    return resolved.model_copy(update={"champion": champion, "champion_file": file, "reference": reference})


def champion_of(served: Served | None, base_fingerprint: str) -> str:
    """Digest of what a name means now: on this base model the prompt with the largest weight, else one of another base model's.

    A prompt of another base model cannot be compared with, but it is there, and the evaluation has to say so.
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


def channel_reader(settings: Settings, channel: str, store: S3Store | None = None, *, base_fingerprint: str = "") -> Reader:
    """A reader of a channel with this machine's trust root and state.

    Raises:
        InvalidRequest: There is no trust root, or it does not know the channel.
    """
    if not settings.trust_root.is_file():
        raise InvalidRequest(
            "There is no trust root on this machine, so no channel can be believed.",
            where=str(settings.trust_root),
            hint="On a laptop `softprompt demo` makes one; elsewhere set SOFTPROMPT_TRUST_ROOT.",
        )
    return Reader(
        store=store or open_store(settings.store),
        channel=channel,
        trust=load_trust_root(settings.trust_root),
        state_dir=settings.node_state,
        base_fingerprint=base_fingerprint,
    )


def _begin_laptop_channel(settings: Settings) -> None:
    policy = settings.policies / LAPTOP_CHANNEL / POLICY_FILE
    if not policy.exists():
        policy.parent.mkdir(parents=True, exist_ok=True)
        policy.write_text(LAPTOP_POLICY)
    if not settings.trust_root.is_file() or not settings.may_sign(LAPTOP_CHANNEL):
        init_channel(LAPTOP_CHANNEL, store=open_store(settings.store), keys_dir=settings.keys, trust_root=settings.trust_root)
    if not settings.audit_key(LAPTOP_CHANNEL).is_file() and (settings.keys / ROOT_KEY_FILE).is_file():
        allow_audit(LAPTOP_CHANNEL, keys_dir=settings.keys, trust_root=settings.trust_root, holder="this laptop")
