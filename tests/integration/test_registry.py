"""The registry against a real MLflow: SQLite as on a laptop, and a server with PostgreSQL and S3 behind it."""

import json
import multiprocessing
import pickletools
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from softprompt.artifact import PromptFile
from softprompt.data.validate import validate_dataset
from softprompt.documents import sha256_hex
from softprompt.embedded.s3 import embedded_s3
from softprompt.errors import FingerprintMismatch, InvalidRequest, TrackingUnavailable, VerificationFailed
from softprompt.evaluation.evaluate import evaluate_prompt
from softprompt.evaluation.gate_report import GateReport
from softprompt.registry import Registration, register_prompt, start_run
from softprompt.registry_dataset import FilesSource
from softprompt.registry_evaluation import wear_of
from softprompt.registry_release import review_lookup
from softprompt.registry_review import set_review, version_to_review, versions_to_review
from softprompt.release.store import open_store
from softprompt.resolve import ResolvedFile, ResolvedRecipe, resolve_recipe
from softprompt.tracking import MlflowSink, check_tracking, mlflow_client
from softprompt.tuning.job import Job
from softprompt.tuning.outcome import judge
from softprompt.tuning.population import PopulationState, run_population
from softprompt.tuning.ray_worker import facts_of
from softprompt.tuning.tune import write_results
from softprompt.tuning.workers import Workers
from tests.builders import colour_rows, save_llama, write_jsonl, write_recipe
from tests.servers import mlflow_server, postgresql, postgresql_programs

MODEL_FILES = {
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registry_model.py", "registered_model_meta"),
    *("adapter_model.safetensors", "adapter_config.json", "manifest.json"),
}


def holds_a_pickle(data: bytes) -> bool:
    """Whether the bytes, or a member of the archive that they are, begin as a pickle of any protocol and end as one."""
    import io
    import zipfile

    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return any(holds_a_pickle(archive.read(name)) for name in archive.namelist())
    try:
        operations = list(pickletools.genops(data))
    except Exception:
        return False
    return bool(operations)


@dataclass
class Outputs:
    """What the steps before the registry leave."""

    resolved: ResolvedRecipe
    folder: Path
    manifest: object

    def register(self, uri: str, run_id: str) -> Registration:
        """The step."""
        return register_prompt(
            uri,
            run_id,
            self.resolved,
            dataset=self.folder / "dataset",
            prompt=self.folder / "prompt",
            gate_report=self.folder / "gates.json",
            training_log=self.folder / "log.json",
            pages={"report.html": self.folder / "report.html"},
        )


def outputs(folder: Path, *, floor: float) -> Outputs:
    """Really trained and evaluated, on a tiny base; without Ray, which is not what is tested here."""
    base = save_llama(folder / "base")
    rows = write_jsonl(folder / "rows.jsonl", colour_rows())
    resolved = resolve_recipe(str(write_recipe(folder / "recipe.yaml", base, rows, floor=floor)))
    manifest = validate_dataset(resolved, folder / "dataset", folder / "dataset.html")
    job = Job.load(resolved, folder / "dataset")
    state = run_population(job, PopulationState(), Workers(), lambda state, run: None)
    state.outcome = judge(job, state)
    facts = {"base_digest_before": "0" * 64, "base_digest_after": "0" * 64} | facts_of(job, Workers())
    write_results(resolved, state, facts, folder / "prompt", folder / "log.json")
    names = ("dataset", "prompt", "log.json", "gates.json", "report.html")
    evaluate_prompt(resolved, *(folder / name for name in names))
    return Outputs(resolved, folder, manifest)


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    return outputs(tmp_path_factory.mktemp("passed"), floor=0.0)


@pytest.fixture(scope="module")
def rejected(tmp_path_factory):
    return outputs(tmp_path_factory.mktemp("rejected"), floor=1.0)


@pytest.fixture(scope="module")
def real_server(tmp_path_factory):
    """MLflow as it is run for many: PostgreSQL behind it, artifacts in S3, reached through it only. Address, database, store."""
    programs = postgresql_programs()
    if programs is None:
        pytest.skip("PostgreSQL's programs are not installed here (Debian: apt-get install postgresql)")
    with postgresql(programs) as database, embedded_s3(tmp_path_factory.mktemp("s3")) as store:
        keys = store.environment() | {"MLFLOW_S3_ENDPOINT_URL": store.access.endpoint_url}
        with mlflow_server(tmp_path_factory.mktemp("mlflow"), database, f"{store.uri}/mlflow", keys) as uri:
            yield uri, database, open_store(f"{store.uri}/mlflow", store.access)


@pytest.fixture(params=["sqlite", "server"])
def tracking(request, tmp_path):
    """A tracking URI, and where experiments keep artifacts."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts"
    return request.getfixturevalue("real_server")[0], None


def test_a_passed_prompt_becomes_a_version_with_its_evidence_and_registering_again_makes_no_other(tracking, passed):
    uri, artifacts = tracking
    run_id = start_run(uri, passed.resolved, passed.manifest, artifacts=artifacts)
    sink = MlflowSink(uri, run_id)
    sink.log([(step, {"training_loss": 1 / step}) for step in (1, 2)])
    client = mlflow_client(uri)
    assert [m.value for m in client.get_metric_history(run_id, "tune_prompt/training_loss")] == [1.0, 0.5], "while it runs"

    result = passed.register(uri, run_id)
    again = passed.register(uri, run_id)
    assert again.version == result.version == "1"
    version = client.get_model_version("colours", "1")
    assert version.tags["softprompt.prompt"] == result.prompt
    assert version.tags["softprompt.gates.verdict"] == "passed"
    assert version.tags["softprompt.base_fingerprint"] == passed.resolved.base.fingerprint
    assert version.tags["softprompt.gates.report"] == sha256_hex((passed.folder / "gates.json").read_bytes())
    assert version.tags["review.status"] == "pending"
    assert "accuracy at least 0" in version.description
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["prompt.num_tokens"] == "4"
    assert run.data.params["training.optimiser"] == "adamw", "what the recipe leaves to defaults, too"
    assert run.data.params["training.input_noise"] == "0.0"
    assert "evaluate_prompt/soft_prompt/accuracy" in run.data.metrics
    assert [found.dataset.digest for found in run.inputs.dataset_inputs] == [passed.manifest.content_digest[:36]]
    assert "| TF-IDF and logistic regression&emsp; | " in version.description
    assert "softprompt review approve colours@1" in version.description
    assert version.tags["softprompt.channel"] == passed.resolved.recipe.channel
    assert version.tags["softprompt.lead"].startswith("accuracy ")
    kept = {"gate_report.json", "training_log.json", "report.html", "resolved_recipe.json", "review.md", "figures", "tables"}
    assert kept <= {f.path for f in client.list_artifacts(run_id)}


def test_a_step_that_is_tried_again_goes_on_with_its_run_and_no_other_step_does(tracking, passed):
    uri, artifacts = tracking
    begin = lambda place: start_run(uri, passed.resolved, passed.manifest, artifacts=artifacts, place=place)
    first = begin("s3://artifacts/prompt-tuning/1/tune-prompt/7/prompt")
    assert begin("s3://artifacts/prompt-tuning/1/tune-prompt/7/prompt") == first
    assert first not in {begin("s3://artifacts/prompt-tuning/2/tune-prompt/9/prompt"), begin(""), begin("")}


def test_the_version_page_has_the_evaluation(tracking, passed):
    uri, artifacts = tracking
    run_id = start_run(uri, passed.resolved, passed.manifest, artifacts=artifacts)
    passed.register(uri, run_id)
    version = passed.register(uri, run_id).version
    client = mlflow_client(uri)
    report = GateReport.from_bytes((passed.folder / "gates.json").read_bytes(), source="gates")
    logged = client.get_logged_model(client.get_model_version("colours", version).source.removeprefix("models:/"))
    metrics = {metric.key: metric.value for metric in logged.metrics}
    assert metrics["soft_prompt/accuracy"] == report.value("soft_prompt", "accuracy").estimate
    assert metrics["gates/accuracy_at_least_0"] == report.gates[0].estimate
    table = json.loads(Path(client.download_artifacts(run_id, "tables/rows.json")).read_text())
    assert table["columns"][:2] == ["row", "right answer"]
    assert [row[0] for row in table["data"]] == [row.id for row in report.rows]
    picture = ElementTree.parse(client.download_artifacts(run_id, "figures/accuracy.svg"))
    assert picture.getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_registry_says_how_often_test_rows_have_judged(tracking, passed, rejected):
    uri, artifacts = tracking
    report = GateReport.from_bytes((passed.folder / "gates.json").read_bytes(), source="gates")
    asked = lambda prompt, rows: wear_of(uri, "colours", prompt, rows)
    before = asked("0" * 64, report.test_rows).judged_before
    for outcome in (passed, passed, rejected):
        outcome.register(uri, start_run(uri, outcome.resolved, outcome.manifest, artifacts=artifacts))
    # The two made the same prompt, and the rejected one judged on the same rows.
    prompts = {PromptFile.read(outcome.folder / "prompt").digest for outcome in (passed, rejected)}
    assert asked("0" * 64, report.test_rows).judged_before == max(before, len(prompts))
    assert asked(report.prompt, report.test_rows).judged_before == max(before, len(prompts)) - 1
    assert asked(report.prompt, "0" * 64).judged_before == 0
    assert wear_of(uri, "another-name", report.prompt, report.test_rows).judged_before == 0
    assert wear_of("http://127.0.0.1:1", "colours", report.prompt, report.test_rows) is None


def test_the_dataset_is_logged_with_its_place_and_digest_and_without_secrets(tracking, passed):
    uri, artifacts = tracking
    secret = "https://me:password@data.example/rows.jsonl?X-Amz-Signature=secret"
    # MLflow knows a dataset by name and digest, and keeps the place that it was first logged from.
    manifest = passed.manifest.model_copy(update={"content_digest": "c" * 64})
    spec = passed.resolved.recipe.dataset.model_copy(update={"uri": secret})
    resolved = passed.resolved.model_copy(
        update={
            "dataset": passed.resolved.dataset.model_copy(update={"uri": secret}),
            "recipe": passed.resolved.recipe.model_copy(update={"dataset": spec}),
        }
    )
    run = mlflow_client(uri).get_run(start_run(uri, resolved, manifest, artifacts=artifacts))
    (logged,) = run.inputs.dataset_inputs
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "train, validation, test")]
    assert (logged.dataset.name, logged.dataset.source_type) == ("colours", "softprompt")
    assert json.loads(logged.dataset.source) == {
        "files": [{"uri": "https://data.example/rows.jsonl", "sha256": resolved.dataset.sha256}],
        "content_digest": manifest.content_digest,
    }
    assert json.loads(logged.dataset.profile)["num_rows"] == manifest.num_rows
    assert run.data.params["dataset.uri"] == "https://data.example/rows.jsonl"
    assert run.data.metrics["validate_dataset/baseline/test_accuracy"] == manifest.baseline.test_accuracy
    assert run.data.metrics["validate_dataset/train_rows"] == manifest.num_rows["train"]


def test_the_source_of_a_logged_dataset_gives_the_files_as_long_as_they_are_what_they_were(passed, tmp_path):
    rows = write_jsonl(tmp_path / "rows.jsonl", colour_rows())
    file = ResolvedFile(uri=rows.as_uri(), sha256=sha256_hex(rows.read_bytes()))
    source = FilesSource.from_json(FilesSource.of([file], passed.manifest.content_digest).to_json())
    assert source.load() == [str(rows)]
    write_jsonl(rows, colour_rows(3))
    with pytest.raises(VerificationFailed):
        source.load()


def test_a_reviewers_decision_survives_registering_again(tracking, passed):
    uri, artifacts = tracking
    run_id = start_run(uri, passed.resolved, passed.manifest, artifacts=artifacts)
    version = passed.register(uri, run_id).version
    mlflow_client(uri).set_model_version_tag("colours", version, "review.status", "approved")
    passed.register(uri, run_id)
    assert mlflow_client(uri).get_model_version("colours", version).tags["review.status"] == "approved"


def test_the_registered_model_loads_without_a_pickle_and_answers(tracking, passed, tmp_path):
    import mlflow
    import pandas as pd

    uri, artifacts = tracking
    version = passed.register(uri, start_run(uri, passed.resolved, passed.manifest, artifacts=artifacts)).version
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/colours/{version}", dst_path=str(tmp_path / "model")))
    assert {path.name for path in folder.rglob("*") if path.is_file()} == MODEL_FILES
    assert not [path.name for path in folder.rglob("*") if path.is_file() and holds_a_pickle(path.read_bytes())]
    model = mlflow.pyfunc.load_model(f"models:/colours/{version}")
    answers = model.predict(pd.DataFrame({"text": ["ruby number 1", "sea"]}))
    assert len(answers) == 2
    assert set(answers) <= {"red", "green", "blue"}
    other_base = save_llama(tmp_path / "other", seed=1)
    other = mlflow.pyfunc.load_model(f"models:/colours/{version}", model_config={"base": other_base.as_uri()})
    with pytest.raises(FingerprintMismatch):
        other.predict(pd.DataFrame({"text": ["ruby"]}))


def test_the_detector_of_pickles_detects_them():
    import io
    import pickle

    import torch

    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert holds_a_pickle(pickle.dumps({"a": [1, 2]}, protocol))
    torch.save(torch.zeros(2), saved := io.BytesIO())
    assert holds_a_pickle(saved.getvalue())


def test_the_server_keeps_rows_in_postgresql_and_files_in_s3(real_server, passed):
    import psycopg2

    uri, database, store = real_server
    result = passed.register(uri, start_run(uri, passed.resolved, passed.manifest))
    with psycopg2.connect(database.replace("+psycopg2", "")) as connection, connection.cursor() as cursor:
        cursor.execute("select value from model_version_tags where key = 'softprompt.prompt'")
        assert (result.prompt,) in cursor.fetchall()
    connection.close()
    keys = list(store.list(""))
    tensor = PromptFile.read(passed.folder / "prompt").tensor
    stored = [key for key in keys if key.endswith("adapter_model.safetensors")]
    assert stored
    assert store.get(stored[0], max_bytes=10**7) == tensor


def _register_all(work, barrier, results):
    """In a process of its own, which takes seconds to begin."""
    for uri, outcome, run_id in work:
        barrier.wait(timeout=WAIT_SECONDS)
        results.put((uri, outcome.resolved.recipe.name, outcome.register(uri, run_id).version))


WAIT_SECONDS = 400
"""On a machine that is busy elsewhere."""


def test_two_processes_that_register_the_same_prompt_at_once_make_one_version(request, passed, tmp_path):
    places = [(f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "artifacts")]
    places += [(request.getfixturevalue("real_server")[0], None)] if postgresql_programs() else []
    cases = [(*place, renamed(passed, f"at-once-{round_}")) for place in places for round_ in range(2)]
    begin = lambda uri, artifacts, one: (uri, one, start_run(uri, one.resolved, one.manifest, artifacts=artifacts))
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    work = [[begin(*case) for case in cases] for _ in range(2)]
    processes = [context.Process(target=_register_all, args=(mine, barrier, results)) for mine in work]
    for process in processes:
        process.start()
    told = [results.get(timeout=WAIT_SECONDS) for _ in range(2 * len(cases))]
    for process in processes:
        process.join(timeout=WAIT_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    for uri, _, outcome in cases:
        client, name = mlflow_client(uri), outcome.resolved.recipe.name
        (left,) = client.search_model_versions(f"name = '{name}'")
        assert [version for place, known, version in told if (place, known) == (uri, name)] == [str(left.version)] * 2
        assert (left.tags["softprompt.gates.verdict"], left.tags["review.status"]) == ("passed", "pending")
        models = client.search_logged_models([client.get_experiment_by_name(name).experiment_id])
        assert [f"models:/{model.model_id}" for model in models] == [left.source]


def renamed(outcome, name):
    recipe = outcome.resolved.recipe.model_copy(update={"name": name})
    return Outputs(outcome.resolved.model_copy(update={"recipe": recipe}), outcome.folder, outcome.manifest)


def test_a_version_that_a_killed_process_left_twice_is_taken_back(tracking, passed):
    uri, artifacts = tracking
    run_id = start_run(uri, passed.resolved, passed.manifest, artifacts=artifacts)
    first = passed.register(uri, run_id)
    client = mlflow_client(uri)
    source = client.get_model_version("colours", first.version).source
    tags = {"softprompt.prompt": first.prompt, "review.status": "pending"}
    make = lambda **more: client.create_model_version(
        "colours", source, run_id, tags=tags | more, model_id=source.removeprefix("models:/")
    )
    left, decided = make(), make(**{"review.status": "rejected"})
    make(**{"softprompt.prompt": "0" * 64})
    assert passed.register(uri, run_id).version == first.version
    found = {version.version for version in client.search_model_versions("name = 'colours'")}
    assert left.version not in found
    assert decided.version in found, "what somebody decided about stays"
    assert client.get_logged_model(source.removeprefix("models:/")), "the kept version's model"


def test_the_review_of_a_version_is_listed_shown_and_decided(tracking, passed):
    uri, artifacts = tracking
    outcome = renamed(passed, "reviewed")
    first = outcome.register(uri, start_run(uri, outcome.resolved, outcome.manifest, artifacts=artifacts))
    (waiting,) = versions_to_review(uri, name="reviewed")
    review_status = review_lookup(uri)
    assert waiting == version_to_review(uri, "reviewed", first.version)
    assert (waiting.status, waiting.verdict, waiting.prompt) == ("pending", "passed", first.prompt)
    assert waiting.page.startswith("**Passed")
    assert ("reviewed", "1") in {(one.name, one.version) for one in versions_to_review(uri)}
    assert review_status("reviewed", "1", first.prompt) == "pending"
    set_review(uri, waiting, status="rejected", reviewer="Ada", note="no", record="staging/1")
    assert versions_to_review(uri, name="reviewed") == []
    (decided,) = versions_to_review(uri, name="reviewed", every=True)
    assert (decided.status, decided.reviewer, decided.note, decided.record) == ("rejected", "Ada", "no", "staging/1 rejected")
    assert decided.is_signed
    assert not decided.evaluated_since
    assert review_status("reviewed", "1", first.prompt) == "rejected"
    assert review_status("reviewed", "1", "0" * 64) == ""
    for name, version in (("reviewed", "7"), ("nobody", "1"), ("reviewed", "x")):
        assert review_status(name, version, first.prompt) == ""
    with pytest.raises(InvalidRequest, match=r"(?s)no such version.*one of reviewed@1"):
        version_to_review(uri, "reviewed", "7")
    with pytest.raises(InvalidRequest, match="knows no version of nobody"):
        version_to_review(uri, "nobody", "1")


def test_a_rejected_prompt_stays_a_run_with_its_reasons(tracking, rejected):
    uri, artifacts = tracking
    run_id = start_run(uri, rejected.resolved, rejected.manifest, artifacts=artifacts)
    result = rejected.register(uri, run_id)
    assert (result.verdict, result.version) == ("rejected", "")
    tags = mlflow_client(uri).get_run(run_id).data.tags
    assert tags["softprompt.verdict"] == "rejected"
    assert tags["softprompt.reason"].startswith("Rejected: accuracy at least 1")
    known = mlflow_client(uri).search_model_versions(f"run_id = '{run_id}'")
    assert known == []


def test_a_server_that_is_away_is_said_within_seconds(passed):
    began = time.monotonic()
    with pytest.raises(TrackingUnavailable, match="does not answer") as caught:
        start_run("http://127.0.0.1:1", passed.resolved, passed.manifest)
    assert "http://127.0.0.1:1" in str(caught.value)
    assert caught.value.exit_code == 5
    with pytest.raises(TrackingUnavailable):
        check_tracking("http://127.0.0.1:1")
    assert time.monotonic() - began < 10


def test_training_goes_on_when_the_server_goes_away(capsys):
    MlflowSink("http://127.0.0.1:1", "0" * 32).log([(1, {"training_loss": 1.0})])
    assert "did not take the metrics of step 1" in capsys.readouterr().out
