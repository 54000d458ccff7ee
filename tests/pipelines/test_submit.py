"""Runs on Kubeflow Pipelines are started, followed and told about: over real HTTP, to a stand-in of its server."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest
from typer.testing import CliRunner

from pipelines.remote import Kubeflow, RunRequest, Server, follow
from softprompt.cli import app
from softprompt.display import STEPS
from softprompt.errors import InvalidRecipe, InvalidRequest, PipelinesUnavailable, RunFailed
from softprompt.registry_runs import recorded_run
from softprompt.resolve import MOST_RESOLVED_BYTES
from softprompt.run_summary import EXIT_CODES
from softprompt.submit import MOST_RECIPE_BYTES, seconds_of, wish_for, with_seconds
from softprompt.tracking import mlflow_client
from tests.kfp_server import kfp_server, short_package
from tests.runs import SOFTPROMPT, environment

RECIPE = """schema_version: 1
name: colours
channel: staging
base_model: {uri: s3://models/tiny}
dataset: {uri: s3://data/colours.jsonl, target_column: colour}
task: {type: classification, template: "Thing: {text}\\nColour:"}
gates: [{metric: accuracy, at_least: 0.5}]
"""
DONE = dict.fromkeys([step.replace("_", "-") for step in STEPS if step != "explain_rejection"], "SUCCEEDED")
REJECTED = {**DONE, "explain-rejection": "SUCCEEDED"}
del REJECTED["publish-prompt"]


@pytest.fixture
def recipe(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture
def quick(monkeypatch):
    """No waiting between two looks."""
    monkeypatch.setattr("pipelines.remote.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return short_package(tmp_path_factory.mktemp("package") / "package.yaml")


@pytest.fixture
def short(package, monkeypatch):
    """Commands that are not told which package send that one."""
    monkeypatch.setattr("softprompt.submit.compile_pipeline", lambda file, pods: shutil.copy(package, file))


def run_command(*arguments, **variables):
    return CliRunner(env={"KF_PIPELINES_ENDPOINT": None, "MLFLOW_TRACKING_URI": None} | variables).invoke(
        app, [str(part) for part in arguments]
    )


def submitted(server):
    (run,) = server.runs.values()
    return run


def cached_tasks(run):
    """Tasks of a run, or of a recurring one, that may take an earlier result."""
    tasks = run["pipeline_spec"]["pipeline_spec"]["root"]["dag"]["tasks"]
    return [name for name, task in tasks.items() if task["cachingOptions"].get("enableCache")]


def test_a_recipe_is_sent_as_its_text_with_what_is_changed_in_it(recipe, quick, short):
    with kfp_server(looks=[{"run": "SUCCEEDED", **DONE}]) as server:
        done = run_command("submit", recipe, "--host", server.url, "--seed", "7", "--kind", "deep")
    assert done.exit_code == 0, done.output
    run = submitted(server)
    parameters = run["runtime_config"]["parameters"]
    assert parameters["recipe"] == RECIPE
    assert (parameters["seed"], parameters["prompt_kind"], parameters["channel"]) == (7, "deep", "")
    (experiment,) = server.experiments.values()
    assert (experiment["display_name"], run["experiment_id"]) == ("colours", experiment["experiment_id"])
    assert run["display_name"].startswith("colours 20")


def test_a_packaged_recipe_is_sent_by_its_name(quick, short):
    with kfp_server() as server:
        assert run_command("submit", "demo", "--host", server.url).exit_code == 0
    assert submitted(server)["runtime_config"]["parameters"]["recipe"] == "demo"


def test_the_policy_of_the_recipes_channel_is_mounted_into_the_steps(recipe, quick):
    with kfp_server() as server:
        run_command("submit", recipe, "--host", server.url)
    platform = submitted(server)["pipeline_spec"]["platform_spec"]["platforms"]["kubernetes"]
    config = platform["deploymentSpec"]["executors"]["exec-resolve-recipe"]
    mounted = {volume["configMapName"]: volume["mountPath"] for volume in config["configMapAsVolume"]}
    assert mounted["softprompt-policy-staging"] == "/etc/softprompt/environments/staging"


def test_a_package_that_was_compiled_before_is_sent_as_it_is(recipe, quick, tmp_path, package):
    package = tmp_path / "package.yaml"
    run_command("compile", package, "--image", f"registry.example/steps@sha256:{'1' * 64}")
    with kfp_server() as server:
        done = run_command("submit", recipe, "--host", server.url, "--package", package, "--no-watch", "--no-cache")
    assert done.exit_code == 0, done.output
    spec = submitted(server)["pipeline_spec"]["pipeline_spec"]
    images = {one["container"]["image"] for one in spec["deploymentSpec"]["executors"].values()}
    assert images == {f"registry.example/steps@sha256:{'1' * 64}"}
    assert not cached_tasks(submitted(server))


def test_what_the_command_says_about_the_run_is_in_the_request(recipe, quick, short):
    with kfp_server(multi_user=True) as server:
        done = run_command(
            *("submit", recipe, "--host", server.url, "--namespace", "team-a", "--experiment", "trials", "--name", "first"),
            *("--service-account", "softprompt-pipeline", "--pipeline-root", "s3://bucket/runs"),
        )
    assert done.exit_code == 0, done.output
    run = submitted(server)
    (experiment,) = server.experiments.values()
    assert (experiment["display_name"], experiment["namespace"]) == ("trials", "team-a")
    assert (run["display_name"], run["service_account"]) == ("first", "softprompt-pipeline")
    assert run["runtime_config"]["pipeline_root"] == "s3://bucket/runs"


def test_progress_is_told_step_by_step_and_ends_with_links(recipe, quick, short):
    looks = [
        {"run": "PENDING"},
        {"run": "RUNNING", "root-driver": "SUCCEEDED", "resolve-recipe-driver": "SUCCEEDED", "resolve-recipe": "RUNNING"},
        {"run": "RUNNING", "resolve-recipe": "SUCCEEDED", "executor": "SUCCEEDED", "validate-dataset": "RUNNING"},
        {"run": "RUNNING", "resolve-recipe": "SUCCEEDED", "validate-dataset": "SUCCEEDED", "tune-prompt": "PENDING"},
        {"run": "SUCCEEDED", **DONE, "condition-3": "SKIPPED"},
    ]
    with kfp_server(looks=looks) as server:
        done = run_command("submit", recipe, "--host", server.url, "--ui", "http://kubeflow.example/pipeline")
    lines = done.output.splitlines()
    titles = [STEPS[step.replace("-", "_")] for step in DONE]
    expected = [line for title in titles for line in (f"{title} ...", f"{title}: done in 7.0 s")]
    assert [line for line in lines if line in expected] == expected
    page = f"http://kubeflow.example/pipeline/#/runs/details/{submitted(server)['run_id']}"
    assert lines[-2:] == [
        f"run           {page}",
        "note          MLFLOW_TRACKING_URI is not set here, so the verdict is on the run's page only",
    ]


def test_a_rejected_prompt_ends_with_4_also_where_the_registry_is_not_asked(recipe, quick, tmp_path, short):
    with kfp_server(looks=[{"run": "SUCCEEDED", **REJECTED}]) as server:
        done = run_command("submit", recipe, "--host", server.url, "--json", tmp_path / "outcome.json")
    assert done.exit_code == 4, done.output
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    assert (outcome["verdict"], outcome["recorded"]) == ("rejected", None)


def test_the_exit_code_is_the_verdict_that_the_registry_recorded(recipe, quick, tmp_path, monkeypatch, short):
    """A real MLflow on SQLite, which the command is led to: of an address that is no server's it would not believe anything."""
    database = f"sqlite:///{tmp_path}/mlflow.db"
    client = mlflow_client(database)
    experiment = client.create_experiment("colours", artifact_location=tmp_path.as_uri())
    asked = lambda settings, run_id: (recorded_run(database, "http://mlflow.example", run_id), "")
    monkeypatch.setattr("softprompt.submit._recorded", asked)
    for verdict, code in EXIT_CODES.items():
        with kfp_server(looks=[{"run": "SUCCEEDED", **DONE}]) as server:
            start = run_command("submit", recipe, "--host", server.url, "--no-watch")
            pipeline_run = submitted(server)["run_id"]
            recorded = client.create_run(experiment).info.run_id
            facts = {"verdict": verdict, "prompt": "a" * 64, "reason": "It was so.", "pipeline_run": pipeline_run}
            for key, value in facts.items():
                client.set_tag(recorded, f"softprompt.{key}", value)
            client.log_metric(recorded, "evaluate_prompt/soft_prompt/accuracy", 0.75)
            with monkeypatch.context() as started:
                started.setattr("softprompt.submit.start", lambda kubeflow, wish, same=pipeline_run: same)
                done = run_command("submit", recipe, "--host", server.url)
        assert start.exit_code == 0
        assert done.exit_code == code, done.output
        assert "It was so." in done.output
        assert "accuracy 0.750" in done.output
        assert f"http://mlflow.example/#/experiments/{experiment}/runs/{recorded}" in done.output


def test_a_failed_run_ends_with_5_and_names_the_step(recipe, quick, short):
    looks = [{"run": "FAILED", "resolve-recipe": "SUCCEEDED", "validate-dataset": "FAILED"}]
    with kfp_server(looks=looks, message="child node failed") as server:
        done = run_command("submit", recipe, "--host", server.url)
    assert done.exit_code == 5
    assert "RunFailed" in done.output
    assert "validate_dataset: child node failed" in done.output
    assert "Validate dataset: failed in 7.0 s" in done.output


def test_a_run_that_somebody_ended_is_told_as_that(quick, package):
    with kfp_server(looks=[{"run": "CANCELED", "tune-prompt": "FAILED"}]) as server:
        kubeflow = Kubeflow(Server(host=server.url))
        run_id = kubeflow.start(package, RunRequest(arguments={}, name="x", experiment="e"))
        with pytest.raises(RunFailed, match="ended by somebody"):
            follow(kubeflow, run_id, STEPS, lambda event: None)


def test_a_server_that_is_away_for_a_while_is_waited_for(quick, package):
    with kfp_server(looks=[{"run": "SUCCEEDED", **DONE}], failures=[503, 502, 500]) as server:
        kubeflow = Kubeflow(Server(host=server.url))
        run_id = kubeflow.start(package, RunRequest(arguments={}, name="x", experiment="e"))
        assert follow(kubeflow, run_id, STEPS, lambda event: None).state == "SUCCEEDED"


def test_a_server_that_stays_away_is_given_up(quick, package):
    with kfp_server(failures=[503] * 5) as server:
        kubeflow = Kubeflow(Server(host=server.url))
        run_id = kubeflow.start(package, RunRequest(arguments={}, name="x", experiment="e"))
        with pytest.raises(PipelinesUnavailable, match="failed"):
            follow(kubeflow, run_id, STEPS, lambda event: None, patience_seconds=0)


def test_a_server_that_is_not_there_is_said_at_once(short):
    began = time.monotonic()
    done = run_command("submit", "demo", "--host", "http://127.0.0.1:1")
    assert done.exit_code == 5
    assert "Kubeflow Pipelines does not answer." in done.output
    assert time.monotonic() - began < 10


def test_nobody_said_where(recipe, short):
    done = run_command("submit", recipe)
    assert done.exit_code == 2
    assert "Say where Kubeflow Pipelines is." in done.output


def test_the_host_may_stand_in_the_environment(quick, short):
    with kfp_server() as server:
        assert run_command("submit", "demo", KF_PIPELINES_ENDPOINT=server.url).exit_code == 0


def test_a_token_comes_from_the_environment_or_a_file_and_is_read_again(quick, tmp_path, short):
    file = tmp_path / "token"
    file.write_text("right\n")
    with kfp_server(token="right", looks=[{"run": "RUNNING"}, {"run": "SUCCEEDED", **DONE}]) as server:
        assert run_command("submit", "demo", "--host", server.url, SOFTPROMPT_KFP_TOKEN="right").exit_code == 0
        assert run_command("submit", "demo", "--host", server.url, "--token-file", file).exit_code == 0
        kubeflow = Kubeflow(Server(host=server.url, token_file=file))
        server.token = "newer"
        with pytest.raises(InvalidRequest, match="does not let us in"):
            kubeflow.look("x")
        file.write_text("newer")
        with pytest.raises(InvalidRequest, match="does not accept"):
            kubeflow.look("x")


def test_without_the_right_token_nothing_is_sent_and_no_token_is_printed(tmp_path, short):
    with kfp_server(token="right") as server:
        done = run_command("submit", "demo", "--host", server.url, SOFTPROMPT_KFP_TOKEN="wrong-token")
    assert done.exit_code == 2
    assert "401" in done.output
    assert "wrong-token" not in done.output
    assert server.runs == {}


def test_what_the_server_refuses_is_said_in_its_words(recipe, quick, package):
    with kfp_server() as server:
        kubeflow = Kubeflow(Server(host=server.url))
        for parameters, reason in {
            "prompt_kind": ({"prompt_kind": "middling"}, "does not match any of the allowed literal values"),
            "seed": ({"seed": "1"}, "requires type number_integer"),
            "unknown": ({"unknown": 1}, "not required by pipeline"),
        }.values():
            with pytest.raises(InvalidRequest) as refused:
                kubeflow.start(package, RunRequest(arguments=parameters, name="x", experiment="e"))
            assert reason in refused.value.actual


@pytest.mark.parametrize(
    ("options", "trigger"),
    [
        (("--every", "7d"), {"periodic_schedule": {"interval_second": 604800}}),
        (("--cron", "0 3 * * 1"), {"cron_schedule": {"cron": "0 0 3 * * 1"}}),
        (("--cron", "30 0 3 * * 1"), {"cron_schedule": {"cron": "30 0 3 * * 1"}}),
    ],
)
def test_a_recurring_run_is_made_once_and_not_followed(recipe, options, trigger, short):
    with kfp_server() as server:
        done = run_command("submit", recipe, "--host", server.url, *options)
        assert done.exit_code == 0, done.output
        again = run_command("submit", recipe, "--host", server.url, *options)
    (made,) = server.recurring.values()
    assert made["trigger"] == trigger
    assert (made["display_name"], made["mode"], made["max_concurrency"], made["no_catchup"]) == ("retrain", "ENABLE", 1, True)
    assert server.runs == {}
    assert again.exit_code == 2
    assert "There is a recurring run of this name." in again.output


def test_what_a_recurring_run_may_not_take_from_the_cache_it_computes(recipe, short):
    with kfp_server() as server:
        assert run_command("submit", recipe, "--host", server.url, "--every", "7d", "--no-cache").exit_code == 0
    (made,) = server.recurring.values()
    assert not cached_tasks(made)


@pytest.mark.parametrize("duration", ["", "7", "d", "-1d", "0d", "1.5h", "7 d"])
def test_a_time_that_cannot_be_read_is_refused(duration):
    with pytest.raises(InvalidRequest, match="time between runs"):
        seconds_of(duration)


def test_a_cron_expression_of_another_length_is_refused():
    with pytest.raises(InvalidRequest, match="cron"):
        with_seconds("0 3 * *")


def test_a_recipe_that_names_files_here_is_not_sent(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE.replace("s3://data/colours.jsonl", "colours.jsonl").replace("s3://models/tiny", "models/tiny"))
    with pytest.raises(InvalidRecipe, match="files of this machine") as refused:
        wish_for(str(file), {})
    assert refused.value.where == f"{file}, base_model.uri, dataset.uri"


def test_a_recipe_that_would_not_fit_into_an_argument_is_not_sent(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(RECIPE + f"# {'x' * MOST_RECIPE_BYTES}\n")
    with pytest.raises(InvalidRecipe, match="too long"):
        wish_for(str(file), {})
    assert MOST_RECIPE_BYTES < MOST_RESOLVED_BYTES


def test_ctrl_c_leaves_the_run_running_and_says_so(recipe, tmp_path):
    with kfp_server(looks=[{"run": "RUNNING", "resolve-recipe": "RUNNING"}]) as server:
        process = subprocess.Popen(
            [SOFTPROMPT, "submit", recipe, "--host", server.url],
            env=environment(tmp_path) | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background job ignores Ctrl-C, and so would what it starts: the tests may be run by one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            while "Resolve recipe ..." not in process.stdout.readline():
                assert process.poll() is None, process.stderr.read()
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        finally:
            process.kill()
        (run,) = server.runs.values()
    assert process.returncode == 130
    assert errors.strip() == f"not followed any more; the run goes on: {server.url}/#/runs/details/{run['run_id']}"
    assert not any(":terminate" in request for request in server.requests)
