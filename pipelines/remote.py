"""Run the pipeline on Kubeflow Pipelines and follow it event by event: what `local.py` is on a laptop.

The server's own client does the talking. What it prints is dropped, what it raises becomes one of our errors, and each of its
requests has a time limit, which it would not have.
"""

import contextlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from softprompt.errors import InvalidRequest, PipelinesUnavailable, RunFailed

Event = dict[str, Any]
TIMEOUT_SECONDS = (5.0, 60.0)
"""Until a connection stands, and until the server sends the next bytes."""
PATIENCE_SECONDS = 300.0
"""How long a server may be away while a run is followed: the run goes on without us."""
_BEGAN, _OVER = ("PENDING", "RUNNING"), ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
_STATES = {"SUCCEEDED": "ended", "FAILED": "failed", "CANCELED": "failed"}
_ENDPOINT, _UI_ENDPOINT = "KF_PIPELINES_ENDPOINT", "KF_PIPELINES_UI_ENDPOINT"
_TOKEN = "SOFTPROMPT_KFP_TOKEN"  # noqa: S105  # the variable's name


@dataclass(frozen=True, kw_only=True)
class Server:
    """Where Kubeflow Pipelines is.

    Attributes:
        host: URL of its API; empty: KF_PIPELINES_ENDPOINT.
        ui: URL of its web pages, for links; empty: KF_PIPELINES_UI_ENDPOINT, else the host.
        namespace: Of the runs, on a server of several users; empty: the server has one for all.
        token_file: File with a bearer token, read before each request; None: the variable SOFTPROMPT_KFP_TOKEN, or no token.
    """

    host: str = ""
    ui: str = ""
    namespace: str = ""
    token_file: Path | None = None

    @property
    def url(self) -> str:
        """The API's address. InvalidRequest: nobody said it."""
        found = (self.host or os.environ.get(_ENDPOINT, "")).rstrip("/")
        if not found.startswith(("http://", "https://")):
            raise InvalidRequest(
                "Say where Kubeflow Pipelines is.",
                where=f"--host, or the variable {_ENDPOINT}",
                expected="a URL such as http://localhost:8888",
                actual=found,
                hint="kubectl port-forward -n kubeflow service/ml-pipeline 8888 brings it to this machine.",
            )
        return found

    def page_of(self, run_id: str) -> str:
        """The run's page in a browser."""
        return f"{(self.ui or os.environ.get(_UI_ENDPOINT) or self.url).rstrip('/')}/#/runs/details/{run_id}"

    def token(self) -> str:
        """The bearer token; empty: none. InvalidRequest: its file cannot be read."""
        if self.token_file is None:
            return os.environ.get(_TOKEN, "").strip()
        try:
            return self.token_file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidRequest("The token's file cannot be read.", where=str(self.token_file), actual=str(error)) from None


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """How a package is to be run, once or again and again.

    Attributes:
        arguments: Pipeline parameters; `recipe` is a packaged name or the YAML text.
        name: Of the run.
        experiment: Made unless it is there.
        service_account: That all its steps run as; empty: the server's default.
        pipeline_root: Where artifacts go; empty: the server's default.
        use_cache: Take results of earlier steps with the same inputs, where the pipeline allows it.
    """

    arguments: Mapping[str, Any]
    name: str
    experiment: str
    service_account: str = ""
    pipeline_root: str = ""
    use_cache: bool = True

    def options(self) -> dict[str, Any]:
        """The client's arguments that a run and a recurring run have in common."""
        return {
            "params": dict(self.arguments),
            "service_account": self.service_account or None,
            "pipeline_root": self.pipeline_root or None,
            "enable_caching": None if self.use_cache else False,
        }


@dataclass(frozen=True)
class RunLook:
    """What the server says about a run.

    Attributes:
        state: `PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED`, `CANCELED`, ...
        steps: Step -> state, of the pipeline's own steps that have begun.
        seconds: Step -> seconds it took, of those that are over.
        message: What went wrong, in the server's words.
    """

    state: str
    steps: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    message: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in _OVER


class Kubeflow:
    """Talks to a Kubeflow Pipelines server.

    Args:
        server: Where it is.

    Raises:
        InvalidRequest: It is not said where.
        PipelinesUnavailable: It does not answer.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        with self._talking():
            self._client = _client(server)

    def start(self, package: Path, request: RunRequest) -> str:
        """Start a run; returns its id.

        Args:
            package: What `softprompt compile` wrote.
            request: How to run it.

        Raises:
            PipelinesUnavailable: The server does not answer, or refuses.
            InvalidRequest: It does not accept the run.
        """
        with self._talking():
            run = self._client.run_pipeline(self._experiment(request.experiment), request.name, str(package), **request.options())
        return str(run.run_id)

    def repeat(self, package: Path, request: RunRequest, *, cron: str = "", every_seconds: int = 0) -> str:
        """Have a run started again and again, one at a time; returns the id of the recurring run.

        Args:
            package: As in `start`.
            request: How to run it; there may be only one recurring run of its name in its experiment.
            cron: When, in KFP's six fields (seconds first); empty: `every_seconds`.
            every_seconds: How often.

        Raises:
            PipelinesUnavailable: The server does not answer, or refuses.
            InvalidRequest: There is one already, or the server does not accept it.
        """
        with self._talking():
            experiment_id = self._experiment(request.experiment)
            known = self._client.list_recurring_runs(experiment_id=experiment_id, page_size=100).recurring_runs or []
            if any(other.display_name == request.name for other in known):
                raise InvalidRequest(
                    "There is a recurring run of this name.",
                    where=f"{self.server.url}, experiment {request.experiment}, {request.name}",
                    hint="Delete it in the Kubeflow UI first, or give this one another name with --name.",
                )
            made = self._client.create_recurring_run(
                experiment_id,
                request.name,
                pipeline_package_path=str(package),
                cron_expression=cron or None,
                interval_second=every_seconds or None,
                max_concurrency=1,
                no_catchup=True,
                **request.options(),
            )
        return str(made.recurring_run_id)

    def look(self, run_id: str) -> RunLook:
        """What the server knows about a run now.

        Raises:
            PipelinesUnavailable: It does not answer, or refuses.
            InvalidRequest: There is no such run.
        """
        with self._talking():
            run = self._client.get_run(run_id)
        details = (run.run_details.task_details if run.run_details else None) or []
        steps = {task.display_name.replace("-", "_"): task for task in details if task.display_name}
        messages = [run.error.message if run.error else "", *(task.error.message for task in details if task.error)]
        return RunLook(
            state=run.state or "PENDING",
            steps={name: task.state for name, task in steps.items() if task.state in (*_BEGAN, *_OVER)},
            seconds={name: _seconds(task) for name, task in steps.items() if task.state in _OVER},
            message=next((message for message in messages if message), ""),
        )

    def _experiment(self, name: str) -> str:
        return str(self._client.create_experiment(name, namespace=self.server.namespace or None).experiment_id)

    @contextlib.contextmanager
    def _talking(self) -> Iterator[None]:
        """Errors of the client as ours; what it prints is dropped."""
        import kfp_server_api
        import urllib3

        try:
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except kfp_server_api.ApiException as error:
            raise _refusal(self.server.url, error) from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PipelinesUnavailable(
                "Kubeflow Pipelines does not answer.",
                where=self.server.url,
                actual=str(error).splitlines()[0],
                hint=f"Check --host or {_ENDPOINT}, and the network.",
            ) from None


def follow(
    kubeflow: Kubeflow,
    run_id: str,
    steps: Mapping[str, str],
    on_event: Callable[[Event], None],
    *,
    interval_seconds: float = 5.0,
    patience_seconds: float = PATIENCE_SECONDS,
) -> RunLook:
    """Follow a run to its end; returns the last look.

    Args:
        kubeflow: The server.
        run_id: Of the run.
        steps: Names of the pipeline's steps; the server knows more tasks than these.
        on_event: Called as things happen: `{"step", "state": began|ended|failed, "seconds"}`.
        interval_seconds: Between two looks.
        patience_seconds: How long the server may be away.

    Raises:
        PipelinesUnavailable: It was away for longer.
        InvalidRequest: It takes the token no more.
        RunFailed: The run failed, or somebody ended it.
    """
    told: dict[str, str] = {}
    answered = time.monotonic()
    while True:
        try:
            look = kubeflow.look(run_id)
            answered = time.monotonic()
        except PipelinesUnavailable:
            if time.monotonic() - answered > patience_seconds:
                raise
        else:
            for event in _news(look, steps, told):
                on_event(event)
            if look.is_over:
                _raise_unless_done(look, kubeflow.server.page_of(run_id))
                return look
        time.sleep(interval_seconds)


def _news(look: RunLook, steps: Mapping[str, str], told: dict[str, str]) -> Iterator[Event]:
    """What of a look is new, in the order of the pipeline; `told` is brought up to date."""
    for step in steps:
        state = look.steps.get(step, "")
        if state in (*_BEGAN, *_STATES) and step not in told:
            told[step] = "began"
            yield {"step": step, "state": "began"}
        if state in _STATES and told[step] == "began":
            told[step] = _STATES[state]
            yield {"step": step, "state": told[step], "seconds": look.seconds[step]}


def _raise_unless_done(look: RunLook, page: str) -> None:
    if look.state == "SUCCEEDED":
        return
    failed = [step for step, state in look.steps.items() if state in ("FAILED", "CANCELED")]
    raise RunFailed(
        "The run was ended by somebody." if look.state == "CANCELED" else "The run failed.",
        where=page,
        actual=", ".join(failed) + (f": {look.message}" if look.message else ""),
        hint="Click the failed step on that page: its log ends with what went wrong and what to do.",
    )


def _seconds(task: Any) -> float:
    """How long a task took; 0 where the server does not say."""
    if not task.start_time or not task.end_time:
        return 0.0
    return max(0.0, float((task.end_time - task.start_time).total_seconds()))


def _client(server: Server) -> Any:
    """The server's own client with a time limit for each request and a token that may change."""
    import kfp
    from kfp.client.token_credentials_base import TokenCredentialsBase

    class Token(TokenCredentialsBase):  # type: ignore[misc]  # KFP has no types
        def refresh_api_key_hook(self, config: Any) -> None:
            config.api_key["authorization"] = server.token()
            config.api_key_prefix["authorization"] = "Bearer"

    class Client(kfp.Client):  # type: ignore[misc]
        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            """Once: the client would ask five times and log a stack trace each time."""
            return self._healthz_api.healthz_service_get_healthz(_request_timeout=TIMEOUT_SECONDS)

    client = Client(
        host=server.url,
        **({"namespace": server.namespace} if server.namespace else {}),
        credentials=Token() if server.token() else None,
        ssl_ca_cert=os.environ.get("SSL_CERT_FILE"),
    )
    rest = client._run_api.api_client.rest_client  # one for all of its interfaces
    request = rest.request

    def in_time(*arguments: Any, **options: Any) -> Any:
        return request(*arguments, **options | {"_request_timeout": options.get("_request_timeout") or TIMEOUT_SECONDS})

    rest.request = in_time
    return client


def _refusal(url: str, error: Any) -> InvalidRequest | PipelinesUnavailable:
    """What the server said, as ours."""
    try:
        said = json.loads(error.body or "")
        actual = str(said.get("message") or said.get("error") or error.reason)
    except (ValueError, AttributeError):
        actual = str(error.reason)
    if error.status in (401, 403):
        return InvalidRequest(
            "Kubeflow Pipelines does not let us in.",
            where=url,
            actual=f"{error.status} {actual}",
            hint=f"Give a token that may run pipelines in this namespace, by --token-file or the variable {_TOKEN}.",
        )
    if error.status in (400, 404, 409):
        return InvalidRequest("Kubeflow Pipelines does not accept this.", where=url, actual=actual)
    return PipelinesUnavailable("Kubeflow Pipelines failed.", where=url, actual=f"{error.status} {actual}")
