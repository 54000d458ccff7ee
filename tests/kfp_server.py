"""A stand-in for Kubeflow Pipelines' API server, since none can be had here: the v2beta1 API over real HTTP on loopback.

It was written from what Kubeflow publishes: requests and answers are the models that are generated from its OpenAPI
(`kfp_server_api`), a key that a model does not know is refused, packages are read as `PipelineSpec`, `PlatformSpec` and
`KubernetesExecutorConfig`, and parameters are judged by the rules of its `v2_template.go` (types, literals, none unknown, none
missing). It runs nothing: a test says how a run goes, as a list of looks at its tasks.
"""

import datetime
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from pipelines.compile import compile_pipeline
from pipelines.pods import PodSettings

Look = dict[str, str]
"""Task's display name -> state; `run` is the run's own."""
TYPES = {
    "NUMBER_INTEGER": (int, float),
    "NUMBER_DOUBLE": (int, float),
    "STRING": str,
    "BOOLEAN": bool,
    "LIST": list,
    "STRUCT": dict,
}


class Refused(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


@dataclass
class KfpServer:
    """What the server has, and how it behaves.

    Attributes:
        url: Its address.
        token: What it takes; empty: anybody may come.
        multi_user: Whether experiments need a namespace.
        looks: How each run goes: a look a request, the last one for ever.
        failures: Statuses that the next requests for a run are answered with, first to last.
        requests: Method and path of every request, in order.
    """

    url: str = ""
    token: str = ""
    multi_user: bool = False
    looks: list[Look] = field(default_factory=lambda: [{"run": "SUCCEEDED"}])
    failures: list[int] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    experiments: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)
    message: str = ""
    """What a failed run says."""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any, authorization: str) -> Any:
        """The answer to a request. Refused: there is none."""
        if self.token and authorization != f"Bearer {self.token}":
            raise Refused(401, "Request header error: there is no valid user identity")
        parts = path.removeprefix("/apis/v2beta1/").split("/")
        found: dict[tuple[str, str, int], Callable[[], Any]] = {
            ("GET", "healthz", 1): lambda: {"multi_user": self.multi_user},
            ("GET", "experiments", 1): lambda: {"experiments": self._experiments_like(query)},
            ("POST", "experiments", 1): lambda: self._add_experiment(body),
            ("POST", "runs", 1): lambda: self._add_run(body),
            ("GET", "runs", 2): lambda: self._look_at(parts[-1]),
            ("GET", "recurringruns", 1): lambda: {"recurringRuns": list(self.recurring.values())},
            ("POST", "recurringruns", 1): lambda: self._add_recurring(body),
        }
        if (method, parts[0], len(parts)) not in found:
            raise Refused(404, f"{method} {path} is not known here")
        return found[method, parts[0], len(parts)]()

    def _experiments_like(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Experiments that a filter of names asks for."""
        conditions = json.loads(query.get("filter", ['{"predicates": []}'])[0])["predicates"]
        names = {condition["stringValue"] for condition in conditions if condition["key"] == "display_name"}
        return [one for one in self.experiments.values() if not names or one["display_name"] in names]

    def _add_experiment(self, body: Any) -> dict[str, Any]:
        given = strictly(body, "V2beta1Experiment")
        if self.multi_user and not given.namespace:
            raise Refused(400, "Invalid resource references for experiment. Expect one namespace type with owner relationship")
        made = body | {"experiment_id": str(uuid.uuid4()), "created_at": now()}
        self.experiments[made["experiment_id"]] = made
        return made

    def _add_run(self, body: Any) -> dict[str, Any]:
        given = strictly(body, "V2beta1Run")
        if given.experiment_id not in self.experiments:
            raise Refused(404, f"Experiment {given.experiment_id} not found")
        judge(body["pipeline_spec"], (body.get("runtime_config") or {}).get("parameters") or {})
        made = body | {"run_id": str(uuid.uuid4()), "created_at": now(), "state": "PENDING"}
        self.runs[made["run_id"]] = made
        return made

    def _add_recurring(self, body: Any) -> dict[str, Any]:
        given = strictly(body, "V2beta1RecurringRun")
        judge(body["pipeline_spec"], (body.get("runtime_config") or {}).get("parameters") or {})
        cron = given.trigger.cron_schedule
        if cron and len(cron.cron.split()) != 6:
            raise Refused(400, f"Schedule cron is not valid: {cron.cron}")
        if not 1 <= int(given.max_concurrency) <= 10:
            raise Refused(400, "max_concurrency must be between 1 and 10")
        made = body | {"recurring_run_id": str(uuid.uuid4())}
        self.recurring[made["recurring_run_id"]] = made
        return made

    def _look_at(self, run_id: str) -> dict[str, Any]:
        if self.failures:
            raise Refused(self.failures.pop(0), "upstream connect error")
        if run_id not in self.runs:
            raise Refused(404, f"Run {run_id} not found")
        number = self.seen.get(run_id, 0)
        self.seen[run_id] = number + 1
        look = self.looks[min(number, len(self.looks) - 1)]
        tasks = [
            {
                "run_id": run_id,
                "task_id": str(uuid.uuid4()),
                "display_name": name,
                "state": state,
                "start_time": "2026-11-28T10:00:00Z",
                # The server says 1970 of a task that is not over.
                "end_time": "2026-11-28T10:00:07Z" if state in ("SUCCEEDED", "FAILED") else "1970-01-01T00:00:00Z",
            }
            for name, state in look.items()
            if name != "run"
        ]
        error = {"error": {"code": 13, "message": self.message}} if self.message and look["run"] == "FAILED" else {}
        return self.runs[run_id] | {"state": look["run"], "run_details": {"task_details": tasks}} | error


def strictly(body: Any, model: str) -> Any:
    """A request as its published model; a key that this does not have is refused, as the server's own parser does."""
    known = set(getattr(kfp_server_api, model).attribute_map.values())
    if unknown := set(body) - known:
        raise Refused(400, f"unknown field {sorted(unknown)[0]}")
    answer = type("Answer", (), {"data": json.dumps(body)})
    return kfp_server_api.ApiClient().deserialize(answer, model)


def judge(content: dict[str, Any], parameters: dict[str, Any]) -> pipeline_spec_pb2.PipelineSpec:
    """A package and its parameters by the rules of the server's template; returns the pipeline's specification."""
    try:
        spec = json_format.ParseDict(content.get("pipeline_spec", content), pipeline_spec_pb2.PipelineSpec())
        platform = json_format.ParseDict(content.get("platform_spec", {}), pipeline_spec_pb2.PlatformSpec())
        for executor in platform.platforms["kubernetes"].deployment_spec.executors.values():
            config = json_format.MessageToDict(executor)
            json_format.ParseDict(config, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
    except json_format.ParseError as error:
        raise Refused(400, f"invalid v2 pipeline spec: {error}") from None
    if spec.schema_version != "2.1.0" or not spec.pipeline_info.name:
        raise Refused(400, "KFP only supports schema version 2.1.0")
    expected = spec.root.input_definitions.parameters
    if extra := set(parameters) - set(expected):
        raise Refused(400, f"parameter(s) provided are not required by pipeline: {', '.join(sorted(extra))}")
    for name, parameter in expected.items():
        _judge_parameter(name, parameter, parameters)
    return spec


def _judge_parameter(name: str, parameter: Any, given: dict[str, Any]) -> None:
    if name not in given:
        if not parameter.is_optional and not parameter.HasField("default_value"):
            raise Refused(400, f"parameter {name} is not optional, yet has neither default value nor user provided value")
        return
    kind = pipeline_spec_pb2.ParameterType.ParameterTypeEnum.Name(parameter.parameter_type)
    if not isinstance(given[name], TYPES[kind]) or (kind.startswith("NUMBER") and isinstance(given[name], bool)):
        raise Refused(400, f"input parameter {name} requires type {kind.lower()}")
    literals = [json_format.MessageToDict(literal) for literal in parameter.literals]
    if literals and given[name] not in literals:
        raise Refused(400, f'input parameter "{name}" value {given[name]} does not match any of the allowed literal values')


def now() -> str:
    """RFC 3339."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def short_package(file: Path) -> Path:
    """The compiled pipeline without the commands of its steps, which are long: the client reads YAML slowly."""
    compile_pipeline(file, PodSettings(secret="", config_map="", trust_root=""))
    pipeline, platform = yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
    for executor in pipeline["deploymentSpec"]["executors"].values():
        executor["container"]["command"] = ["true"]
    file.write_text(yaml.dump_all([pipeline, platform], Dumper=yaml.CSafeDumper))
    return file


@contextmanager
def kfp_server(**how: Any) -> Iterator[KfpServer]:
    """A server on loopback until the block ends; `how` are fields of `KfpServer`."""
    state = KfpServer(**how)

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            parts = urlsplit(self.path)
            state.requests.append(f"{self.command} {parts.path}")
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            try:
                answer, status = (
                    state.answer(self.command, parts.path, parse_qs(parts.query), body, self.headers.get("authorization", "")),
                    200,
                )
            except Refused as refused:
                answer, status = {"error": refused.message, "code": 3, "message": refused.message, "details": []}, refused.status
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _handle

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
