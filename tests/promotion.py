"""A place to promote prompts in: a store, a registry, a trust root, and a promotion repository with a remote."""

import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from typer.testing import CliRunner, Result

from softprompt.artifact import PromptFile
from softprompt.cli import app
from softprompt.documents import canonical_json
from softprompt.release.care.init_channel import init_channel
from softprompt.release.channel import ChannelLog, newest
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.statement import Generation, format_time
from softprompt.release.store import S3Store, open_store
from softprompt.release.trust import load_trust_root
from softprompt.settings import Settings
from tests.prompts import BASE, random_prompt_file

GIT_POLICY = "schema_version: 1\nauthority: git\n"
IDENTITY = {f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


def a_prompt(seed: int) -> PromptFile:
    """Prompt files that differ by their seed."""
    return random_prompt_file(seed)


def empty_registry(file: Path) -> Path:
    """An MLflow database without models; making one takes seconds, copying it none."""
    from softprompt.tracking import mlflow_client

    mlflow_client(f"sqlite:///{file}").search_registered_models()
    return file


@dataclass
class Promotion:
    """One channel, `staging`, over which Git has the authority.

    Attributes:
        folder: Everything lies here.
        environment: What commands see.
    """

    folder: Path
    environment: dict[str, str]

    @classmethod
    def begin(
        cls,
        folder: Path,
        server: dict[str, str],
        registry: Path,
        setenv: Callable[[str, str], None],
        *,
        channels: tuple[str, ...] = ("staging",),
        store: str = "",
    ) -> "Promotion":
        """Channels, keys, and a repository that has been pushed.

        Args:
            folder: An empty one.
            server: Where S3 is, as environment variables.
            registry: An empty MLflow database.
            setenv: Sets a variable of this process.
            channels: Their names.
            store: `s3://BUCKET/PREFIX`; empty: a new prefix in the embedded server's bucket.
        """
        home = folder / "home"
        home.mkdir(parents=True)
        shutil.copy(registry, home / "mlflow.db")
        environment = {
            "SOFTPROMPT_HOME": str(home),
            "SOFTPROMPT_STORE": store or f"s3://softprompt/{uuid.uuid4().hex}",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "COLUMNS": "200",
            "TERM": "dumb",
            **server,
            **IDENTITY,
        }
        place = cls(folder, environment)
        for name, value in environment.items():
            setenv(name, value)
        for channel in channels:
            init_channel(channel, store=place.store, keys_dir=place.settings.keys, trust_root=place.settings.trust_root)
        place._begin_repository(channels)
        return place

    def _begin_repository(self, channels: tuple[str, ...]) -> None:
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(self.remote)], check=True)
        subprocess.run(["git", "clone", "-q", f"file://{self.remote}", str(self.repository)], check=True, capture_output=True)
        self.git("checkout", "-q", "-b", "main")
        for channel in channels:
            self.write(f"{channel}/_policy", GIT_POLICY)
        self.merge_to_main()
        self.git("remote", "set-head", "origin", "main")

    @property
    def remote(self) -> Path:
        return self.folder / "remote.git"

    @property
    def repository(self) -> Path:
        return self.folder / "repository"

    @property
    def environments(self) -> Path:
        return self.repository / "environments"

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    @cached_property
    def store(self) -> S3Store:
        return open_store(self.environment["SOFTPROMPT_STORE"])

    def git(self, *arguments: str, folder: Path | None = None) -> str:
        command = ["git", "-C", str(folder or self.repository), *arguments]
        return subprocess.run(command, env=os.environ | IDENTITY, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, file: str, text: str) -> None:
        path = self.environments / f"{file}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def merge_to_main(self, branch: str = "") -> str:
        """Commit what is written, merge a branch, push; the new commit."""
        self.git("add", "-A")
        if self.git("status", "--porcelain"):
            self.git("commit", "-q", "-m", "change")
        if branch:
            self.git("merge", "-q", "--no-ff", "-m", f"Merge {branch}", branch)
        self.git("push", "-q", "origin", "main")
        return self.git("rev-parse", "HEAD")

    def register(
        self, made: int | PromptFile, *, name: str = "greeting", review: str = "approved", channel: str = "staging"
    ) -> str:
        """What a pipeline leaves of a prompt, or a seed: a version in the registry, blobs and a proposal in the store."""
        from softprompt.tracking import mlflow_client

        prompt = made if isinstance(made, PromptFile) else a_prompt(made)
        mlflow = mlflow_client(self.settings.tracking_uri)
        if not mlflow.search_registered_models(f"name = '{name}'"):
            mlflow.create_registered_model(name)
        tags = {"softprompt.prompt": prompt.digest, "review.status": review}
        version = str(mlflow.create_model_version(name, str(self.folder), tags=tags).version)
        policies = self.folder / "pipeline"
        (policies / channel).mkdir(parents=True, exist_ok=True)
        (policies / channel / "_policy.yaml").write_text(GIT_POLICY)
        champion = self.head(channel).state.prompts.get(name)
        report = {"verdict": "passed", "prompt": prompt.digest, "gates": []}
        report["champion"] = champion.bases[prompt.manifest.base_fingerprint][0].prompt if champion else ""
        outcome = publish_prompt(
            prompt=prompt,
            name=name,
            channel=channel,
            verdict="passed",
            evidence={"gate_report.json": canonical_json(report)},
            model_version=version,
            numerics="float32",
            store=self.store,
            policy_dir=policies,
            trust_root=self.settings.trust_root,
            signing_key=None,
            state_dir=self.folder / "pipeline-journal",
            evaluated=format_time(time.time()),
        )
        assert outcome.outcome == "proposed", outcome
        return version

    def run(self, *arguments: object, code: int = 0) -> Result:
        """A `softprompt release` command, in this process."""
        result = CliRunner().invoke(app, ["release", *map(str, arguments)], env=self.environment)
        assert result.exit_code == code, f"{result.exit_code}\n{result.output}\n{result.exception!r}"
        return result

    def head(self, channel: str = "staging") -> Generation:
        return newest(ChannelLog(self.store, channel, load_trust_root(self.settings.trust_root))).signed.generation

    def serves(self, name: str = "greeting", channel: str = "staging") -> list[tuple[str, int]]:
        served = self.head(channel).state.prompts.get(name)
        return [(share.prompt, share.weight) for share in served.bases[BASE]] if served else []

    def aliases(self, name: str = "greeting") -> dict[str, str]:
        from softprompt.tracking import mlflow_client

        found = mlflow_client(self.settings.tracking_uri).get_registered_model(name).aliases
        return {alias: str(version) for alias, version in found.items()}
