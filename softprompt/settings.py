"""Where this deployment keeps its state: read from the environment once, when a command or step begins.

    SOFTPROMPT_HOME         folder of a laptop's state; default `.softprompt` here
    SOFTPROMPT_STORE        `s3://BUCKET[/PREFIX]` that channels live in; unset: the embedded S3 server's
    SOFTPROMPT_POLICIES     folder with <channel>/_policy.yaml; default <home>/environments
    SOFTPROMPT_TRUST_ROOT   the trust root; default <home>/trust/root.json
    SOFTPROMPT_KEYS         folder of publish-<channel>.pem, for channels whose authority is `pipeline`, and of a reviewer's
                            audit-<channel>.pem; default <home>/keys
    SOFTPROMPT_SIGNER       URI of a key in a key service that signs instead, such as `awskms:alias/softprompt-{channel}`
    SOFTPROMPT_GIT_CREDENTIALS
                            folder of what a reconciler shows the promotion repository's remote (release/promotion/git_access.py);
                            unset: Git's own means
    SOFTPROMPT_STORE_ENCRYPTION
                            how the store is asked to encrypt: `sse-s3`, `sse-kms`, `sse-kms:KEY`; unset: as the bucket says
    SOFTPROMPT_CHECKPOINTS  folder that all Ray workers see, or `s3://BUCKET/PREFIX`; default beside the prompt
    MLFLOW_TRACKING_URI     tracking server; default SQLite in <home>
    SOFTPROMPT_TRACKING_PAGE
                            URL at which a person's browser finds the tracking server, for links; default MLFLOW_TRACKING_URI
    RAY_ADDRESS             a Ray cluster; default a local Ray for each training of several workers, none for one
    SOFTPROMPT_BACKEND      where steps that use Ray do their work when a run does not say: `local` (default) or `rayjob`

With `rayjob`, steps make RayJobs for KubeRay; SOFTPROMPT_CHECKPOINTS has to be in S3 then (`softprompt.rayjob.settings`):

    SOFTPROMPT_RAYJOB_IMAGE             of the Ray pods; default the step's own
    SOFTPROMPT_RAYJOB_SERVICE_ACCOUNT   default `softprompt-trainer`
    SOFTPROMPT_RAYJOB_SECRET            with keys of S3, MLflow, the hub; default `softprompt-pipeline`; need not exist
    SOFTPROMPT_RAYJOB_QUEUE             a Kueue LocalQueue that starts RayJobs; default none
    SOFTPROMPT_RAYJOB_PRIORITY_CLASS    of the pods; default none
    SOFTPROMPT_RAYJOB_CPU, SOFTPROMPT_RAYJOB_MEMORY
                                        of a worker pod where its task does not say; default `1` and `4Gi`
    SOFTPROMPT_RAYJOB_HEAD_CPU, SOFTPROMPT_RAYJOB_HEAD_MEMORY
                                        of the head pod; default `500m` and `4Gi`
    SOFTPROMPT_RAYJOB_NUM_CPUS          threads of a worker; default the whole processors that its pod asks for
    SOFTPROMPT_RAYJOB_MIN_WORKERS, SOFTPROMPT_RAYJOB_MAX_WORKERS
                                        worker pods of `validate_dataset` and `evaluate_prompt`; default 1 and 1
    SOFTPROMPT_RAYJOB_DEADLINE_SECONDS  for a whole RayJob; default a day
    SOFTPROMPT_RAYJOB_START_SECONDS     until its cluster stands; default an hour
    SOFTPROMPT_RAYJOB_RETRIES           clusters after the first, when one was lost; default 3
    SOFTPROMPT_RAYJOB_TTL_SECONDS       until a finished one's cluster goes, if no step takes it away; default 60
    SOFTPROMPT_RAYJOB_ORPHAN_SECONDS    until work that no step waits for ends; default 900

S3 itself is configured by the usual AWS variables.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

LAPTOP_STORE = "s3://softprompt"
SECRET_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "HF_TOKEN"),
)
"""What pods of a run take from their namespace's Secret, where it has it."""


@dataclass(frozen=True)
class Settings:
    """See the module's table; every field has a default that works on a laptop."""

    home: Path
    store: str
    policies: Path
    trust_root: Path
    keys: Path
    signer: str
    """URI of a key in a key service, `{channel}` standing for the channel; empty: files in `keys`."""
    checkpoints: str
    """Empty: beside the prompt."""
    tracking_uri: str
    uses_embedded_store: bool
    git_credentials: Path | None = None
    """None: Git's own means."""
    backend: str = "local"
    tracking_page: str = ""
    """Empty: the tracking store has no web pages."""
    node_state_folder: Path | None = None
    """None: `node` in `home`."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the environment (the process's own by default)."""
        env = os.environ if environment is None else environment
        home = Path(env.get("SOFTPROMPT_HOME") or ".softprompt").expanduser().resolve()
        tracking_uri = env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
        page = env.get("SOFTPROMPT_TRACKING_PAGE") or (_without_user(tracking_uri) if tracking_uri.startswith("http") else "")
        return cls(
            home=home,
            store=env.get("SOFTPROMPT_STORE") or LAPTOP_STORE,
            policies=Path(env.get("SOFTPROMPT_POLICIES") or home / "environments"),
            trust_root=Path(env.get("SOFTPROMPT_TRUST_ROOT") or home / "trust" / "root.json"),
            keys=Path(env.get("SOFTPROMPT_KEYS") or home / "keys"),
            signer=env.get("SOFTPROMPT_SIGNER") or "",
            git_credentials=Path(env["SOFTPROMPT_GIT_CREDENTIALS"]) if env.get("SOFTPROMPT_GIT_CREDENTIALS") else None,
            checkpoints=env.get("SOFTPROMPT_CHECKPOINTS") or "",
            tracking_uri=tracking_uri,
            uses_embedded_store=not env.get("SOFTPROMPT_STORE"),
            backend=env.get("SOFTPROMPT_BACKEND") or "local",
            tracking_page=page.rstrip("/"),
        )

    def signing_key(self, channel: str) -> Path | str:
        """What signs a channel: a private key's file, whether or not it is there, or the URI of a key in a key service."""
        return self.signer.replace("{channel}", channel) or self.keys / f"publish-{channel}.pem"

    def may_sign(self, channel: str) -> bool:
        """Whether this machine has a key to sign a channel with."""
        key = self.signing_key(channel)
        return isinstance(key, str) or key.is_file()

    def audit_key(self, channel: str) -> Path:
        """The private key that signs a channel's review decisions, where this machine has it."""
        return self.keys / f"audit-{channel}.pem"

    @property
    def has_registry(self) -> bool:
        """Whether there is an MLflow to ask: a server, or a database in a file that is there."""
        kind, _, file = self.tracking_uri.partition(":///")
        return kind != "sqlite" or Path(file).is_file()

    @property
    def node_state(self) -> Path:
        """Where a reader of a channel keeps its high-water mark and its last good copy."""
        return self.node_state_folder or self.home / "node"

    @property
    def runs(self) -> Path:
        """Where the runs of this laptop keep their outputs."""
        return self.home / "runs"

    @property
    def run_artifacts(self) -> Path | None:
        """Where MLflow experiments on the laptop keep artifacts; None: where the server says."""
        return self.home / "mlartifacts" if self.tracking_uri.startswith("sqlite:") else None

    @property
    def journal(self) -> Path:
        """Where a publisher writes down what it is about to commit."""
        return self.home / "journal"


def _without_user(url: str) -> str:
    """A URL that may be shown: without `user:password@`."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
