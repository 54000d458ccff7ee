"""The channel `laptop`, whose authority is `pipeline`, begun and published to in whatever store."""

from pathlib import Path

from softprompt.artifact import PromptFile
from softprompt.release.care.init_channel import init_channel, publishing_key_file
from softprompt.release.planning.policy import LAPTOP_POLICY
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.store import S3Store


def begin(folder: Path, store: S3Store) -> None:
    """Begin it; keys, policy and `root.json` lie in a folder."""
    policy = folder / "environments" / "laptop" / "_policy.yaml"
    policy.parent.mkdir(parents=True)
    policy.write_text(LAPTOP_POLICY)
    init_channel("laptop", store=store, keys_dir=folder / "keys", trust_root=folder / "root.json")


def publish(folder: Path, store: S3Store, name: str, prompt: PromptFile) -> int:
    """Serve a prompt under a name; the generation."""
    outcome = publish_prompt(
        prompt=prompt,
        name=name,
        channel="laptop",
        verdict="passed",
        evidence={},
        model_version="1",
        numerics="float32",
        store=store,
        policy_dir=folder / "environments",
        trust_root=folder / "root.json",
        signing_key=publishing_key_file(folder / "keys", "laptop"),
        state_dir=folder / "journal",
    )
    assert outcome.outcome == "published"
    return outcome.generation
