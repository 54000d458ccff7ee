"""What `softprompt compile` says of the steps' pods, read with the messages that KFP's own driver reads it with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp import components
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineDeploymentConfig, PipelineSpec, PlatformSpec
from typer.testing import CliRunner

from pipelines.compile import compile_pipeline
from pipelines.pods import CONFIGURATION, RAYJOB, REQUIRED_CONFIGURATION, STEPS, PodSettings, StepPod, num_threads
from pipelines.prompt_tuning import prompt_tuning
from softprompt import settings
from softprompt.cli import app
from softprompt.errors import InvalidRequest

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "softprompt"
ELSEWHERE = {
    *("SOFTPROMPT_HOME", "SOFTPROMPT_CACHE", "SOFTPROMPT_POLICIES", "SOFTPROMPT_TRUST_ROOT", "SOFTPROMPT_KEYS"),
    *("SOFTPROMPT_GIT_CREDENTIALS", "RAY_ADDRESS"),
}
"""Variables of the settings that a step's pod gets by other ways, or never."""


class Package:
    """A compiled package, read strictly: an unknown key raises."""

    def __init__(self, file: Path) -> None:
        self.documents = list(yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader))
        self.spec = json_format.ParseDict(self.documents[0], PipelineSpec())
        self.platform = json_format.ParseDict(self.documents[1], PlatformSpec())
        # Not a local: the executors are parts of it, and go with it.
        self.deployment = json_format.ParseDict(self.documents[0]["deploymentSpec"], PipelineDeploymentConfig())

    def container(self, step: str):
        return self.deployment.executors[f"exec-{step.replace('_', '-')}"].container

    def config(self, step: str) -> KubernetesExecutorConfig:
        executor = self.platform.platforms["kubernetes"].deployment_spec.executors[f"exec-{step.replace('_', '-')}"]
        return json_format.ParseDict(json_format.MessageToDict(executor), KubernetesExecutorConfig())

    def tasks(self) -> dict[str, object]:
        """Step -> its task, wherever in the graph."""
        dags = [self.spec.root.dag, *(component.dag for component in self.spec.components.values())]
        tasks = {name.replace("-", "_"): task for dag in dags for name, task in dag.tasks.items()}
        return {name: task for name, task in tasks.items() if name in STEPS}


def written(folder: Path, *options: object) -> Package:
    file = folder / "package.yaml"
    done = CliRunner().invoke(app, ["compile", str(file), *map(str, options)])
    assert done.exit_code == 0, done.output
    return Package(file)


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Package:
    return written(tmp_path_factory.mktemp("package"), "--channel", "staging", "--channel", "production")


def from_config_map(config: KubernetesExecutorConfig) -> dict[str, bool]:
    """Variable -> whether it may be missing."""
    return {key.env_var: source.optional for source in config.config_map_as_env for key in source.key_to_env}


def test_every_step_is_placed(package):
    assert set(STEPS) == set(package.tasks())


@pytest.mark.parametrize("step", STEPS)
def test_every_step_has_bounds(package, step):
    resources, config, pod = package.container(step).resources, package.config(step), STEPS[step]
    assert (resources.resource_cpu_request, resources.resource_cpu_limit) == (pod.cpu_request, pod.cpu_limit)
    assert (resources.resource_memory_request, resources.resource_memory_limit) == (pod.memory_request, pod.memory_limit)
    assert config.active_deadline_seconds == pod.timeout_seconds > 0
    variables = {variable.name: variable.value for variable in package.container(step).env}
    assert variables["OMP_NUM_THREADS"] == str(num_threads(pod.cpu_limit))


@pytest.mark.parametrize("step", STEPS)
def test_every_step_is_tried_again_later_and_later_however_long_it_ran(package, step):
    policy, pod = package.tasks()[step].retry_policy, STEPS[step]
    assert policy.max_retry_count == pod.retries >= 2
    assert (policy.backoff_duration.seconds, policy.backoff_factor) == (pod.backoff_seconds, 2.0)
    # Argo gives up once this much time has passed since the first start: with KFP's default of an hour, after a long try.
    waits = sum(pod.backoff_seconds * 2**number for number in range(pod.retries))
    assert policy.backoff_max_duration.seconds >= (pod.retries + 1) * pod.timeout_seconds + waits


@pytest.mark.parametrize("step", STEPS)
def test_what_kfp_leaves_out_of_pod_security_restricted_is_said(package, step):
    context = package.config(step).security_context
    assert (context.run_as_non_root, context.run_as_user, context.run_as_group) == (True, 10001, 10001)


def test_the_user_is_the_images():
    text = (ROOT / "infra" / "images" / "steps.Containerfile").read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)


@pytest.mark.parametrize("step", STEPS)
def test_a_step_can_write_where_the_root_file_system_is_read_only(package, step):
    mounts = {mount.mount_path: mount for mount in package.config(step).empty_dir_mounts}
    assert "/tmp" in mounts
    if step in ("validate_dataset", "tune_prompt", "evaluate_prompt"):  # Ray's objects
        assert (mounts["/dev/shm"].medium, mounts["/dev/shm"].size_limit) == ("Memory", "512Mi")


@pytest.mark.parametrize("step", STEPS)
def test_policies_of_the_network_know_the_pods_by_their_labels(package, step):
    labels = package.config(step).pod_metadata.labels
    assert dict(labels) == {"app.kubernetes.io/part-of": "softprompt", "softprompt.dev/duty": "pipeline"}


@pytest.mark.parametrize("step", STEPS)
def test_configuration_comes_from_the_chart_s_objects(package, step):
    config = package.config(step)
    assert {source.config_map_name for source in config.config_map_as_env} == {"softprompt-pipeline"}
    may_be_missing = from_config_map(config)
    assert {name for name, optional in may_be_missing.items() if not optional} == set(REQUIRED_CONFIGURATION)
    assert set(CONFIGURATION) <= set(may_be_missing)
    (secret,) = config.secret_as_env
    assert (secret.secret_name, secret.optional) == ("softprompt-pipeline", True)
    assert {key.env_var for key in secret.key_to_env} == set(settings.SECRET_VARIABLES)


def test_everything_that_the_chart_configures_reaches_the_steps(package):
    text = (CHART / "templates" / "pipeline" / "configuration.yaml").read_text()
    given = set(re.findall(r'"((?:SOFTPROMPT|AWS|MLFLOW|RAY)_[A-Z0-9_]+)"', text))
    assert given, "the chart's template has another form now"
    assert given <= set(from_config_map(package.config("tune_prompt")))


def test_no_variable_of_the_settings_is_forgotten():
    documented = set(re.findall(r"^    ((?:SOFTPROMPT|MLFLOW|RAY)_[A-Z_]+)", settings.__doc__, re.MULTILINE))
    assert documented - ELSEWHERE <= {*CONFIGURATION, *REQUIRED_CONFIGURATION, *RAYJOB}


def test_only_steps_that_use_ray_get_what_rayjobs_need(package):
    reached = {step for step in STEPS if set(RAYJOB) <= set(from_config_map(package.config(step)))}
    assert reached == {"validate_dataset", "tune_prompt", "evaluate_prompt"}


@pytest.mark.parametrize("step", STEPS)
def test_trust_root_and_policies_are_mounted_where_the_settings_look(package, step):
    mounts = {mount.config_map_name: mount.mount_path for mount in package.config(step).config_map_as_volume}
    assert mounts == {
        "softprompt-trust-root": "/etc/softprompt/trust",
        "softprompt-policy-staging": "/etc/softprompt/environments/staging",
        "softprompt-policy-production": "/etc/softprompt/environments/production",
    }
    found = settings.Settings.from_environment({one.name: one.value for one in package.container(step).env})
    assert found.trust_root == Path("/etc/softprompt/trust/root.json")
    assert found.policies == Path("/etc/softprompt/environments")


def test_the_form_offers_the_channels_whose_policies_are_mounted(package):
    offered = package.spec.root.input_definitions.parameters["channel"].literals
    assert [choice.string_value for choice in offered] == ["", "staging", "production"]


def test_kfp_s_own_loader_takes_the_package(tmp_path):
    written(tmp_path)
    loaded = components.load_component_from_file(str(tmp_path / "package.yaml"))
    assert set(loaded.component_spec.inputs) == set(prompt_tuning.component_spec.inputs)
    assert loaded.platform_spec.platforms["kubernetes"].deployment_spec.executors.keys() == {
        f"exec-{step.replace('_', '-')}" for step in STEPS
    }


def test_only_the_step_that_publishes_can_get_a_signing_key(tmp_path):
    pods = tmp_path / "pods.yaml"
    pods.write_text("schema_version: 1\nsigning_keys: softprompt-signing\n")
    package = written(tmp_path, "--pods", pods)
    reached = {step for step in STEPS if package.config(step).secret_as_volume}
    assert reached == {"publish_prompt"}
    (mount,) = package.config("publish_prompt").secret_as_volume
    assert (mount.secret_name, mount.mount_path) == ("softprompt-signing", "/etc/softprompt/keys")


def test_no_step_gets_a_signing_key_unless_it_is_said(package):
    assert not any(package.config(step).secret_as_volume for step in STEPS)


def test_with_workload_identity_no_secret_is_named(tmp_path):
    package = written(tmp_path, "--secret", "", "--config-map", "team-a")
    assert not any(package.config(step).secret_as_env for step in STEPS)
    assert {source.config_map_name for source in package.config("tune_prompt").config_map_as_env} == {"team-a"}


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    pods = tmp_path / "pods.yaml"
    pods.write_text(
        "schema_version: 1\n"
        "image_pull_secrets: [registry]\n"
        "steps:\n"
        "  tune_prompt:\n"
        "    accelerator: nvidia.com/gpu\n"
        "    memory_limit: 64Gi\n"
        "    node_selector: {pool: gpu}\n"
        "    tolerations: [{key: nvidia.com/gpu, effect: NoSchedule}]\n"
        "  validate_dataset: {retries: 0}\n"
    )
    package = written(tmp_path, "--pods", pods, "--image", f"r.example/steps@sha256:{'0' * 64}")
    container, config = package.container("tune_prompt"), package.config("tune_prompt")
    assert container.image == f"r.example/steps@sha256:{'0' * 64}"
    assert (container.resources.accelerator.resource_type, container.resources.accelerator.resource_count) == (
        "nvidia.com/gpu",
        "1",
    )
    assert container.resources.resource_memory_limit == "64Gi"
    assert container.resources.resource_cpu_limit == STEPS["tune_prompt"].cpu_limit
    assert dict(config.node_selector.labels) == {"pool": "gpu"}
    assert [(one.key, one.operator, one.effect) for one in config.tolerations] == [("nvidia.com/gpu", "Exists", "NoSchedule")]
    assert [one.secret_name for one in config.image_pull_secret] == ["registry"]
    assert not package.tasks()["validate_dataset"].HasField("retry_policy")
    assert package.config("evaluate_prompt").active_deadline_seconds == STEPS["evaluate_prompt"].timeout_seconds


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("steps: {tune: {retries: 1}}", "tune"),
        ("steps: {tune_prompt: {cpu_limit: two}}", "cpu_limit"),
        ("steps: {tune_prompt: {timeout_seconds: 1}}", "timeout_seconds"),
        ("secret: Softprompt", "secret"),
        ("labels: {a: b}", "labels"),
    ],
)
def test_a_file_that_is_wrong_is_refused_by_key(tmp_path, text, named):
    pods = tmp_path / "pods.yaml"
    pods.write_text(f"schema_version: 1\n{text}\n")
    done = CliRunner().invoke(app, ["compile", str(tmp_path / "package.yaml"), "--pods", str(pods)])
    assert done.exit_code == 2
    assert named in done.output


def test_an_image_by_tag_is_warned_of_and_one_by_digest_is_not(tmp_path):
    def said(*options: str) -> str:
        return CliRunner().invoke(app, ["compile", str(tmp_path / "package.yaml"), *options]).stderr

    assert "by digest" in said("--image", "r.example/steps:1")
    assert said("--image", f"r.example/steps@sha256:{'0' * 64}") == ""


def test_a_run_on_a_laptop_has_none_of_it(package):
    """The local runner would repeat a step that refused its dataset."""
    spec = prompt_tuning.pipeline_spec
    tasks = [task for dag in (spec.root.dag, *(one.dag for one in spec.components.values())) for task in dag.tasks.values()]
    assert not any(task.HasField("retry_policy") for task in tasks)
    assert not prompt_tuning.platform_spec.platforms
    assert not any(len(parameter.literals) for parameter in spec.root.input_definitions.parameters.values())


def test_the_objects_for_gitops_say_what_the_package_says(package, tmp_path):
    file = tmp_path / "objects.yaml"
    pods = PodSettings(channels=("staging", "production"))
    compile_pipeline(file, pods, form="kubernetes", namespace="kubeflow")
    pipeline, version = yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader)
    assert (pipeline["kind"], pipeline["metadata"]) == ("Pipeline", {"name": "prompt-tuning", "namespace": "kubeflow"})
    assert pipeline["spec"]["displayName"] == "Prompt tuning"
    assert (version["kind"], version["spec"]["pipelineName"]) == ("PipelineVersion", "prompt-tuning")
    assert version["spec"]["pipelineSpec"] == package.documents[0]
    assert version["spec"]["platformSpec"] == package.documents[1]


def test_a_version_s_name_follows_its_content_because_it_cannot_be_changed(tmp_path):
    def name(**settings: object) -> str:
        compile_pipeline(tmp_path / "objects.yaml", PodSettings(**settings), form="kubernetes")
        _, version = (tmp_path / "objects.yaml").read_text().split("\n---\n")
        return re.search(r"^  name: (\S+)$", version, re.MULTILINE)[1]

    assert name() == name()
    assert name() != name(image=f"r.example/steps@sha256:{'0' * 64}")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", name())


def test_a_package_is_yaml(tmp_path):
    with pytest.raises(InvalidRequest, match="YAML"):
        compile_pipeline(tmp_path / "package.json")


@pytest.mark.parametrize(("cpu", "threads"), [("100m", 1), ("1", 1), ("1500m", 2), ("2", 2), ("0.5", 1), ("2.5", 3)])
def test_threads_are_whole_processors(cpu, threads):
    assert num_threads(cpu) == threads


def test_the_longest_retry_counts_every_try_and_every_wait():
    pod = StepPod(retries=3, backoff_seconds=10, timeout_seconds=100)
    assert pod.retrying_seconds == 4 * 100 + 10 + 20 + 40


def test_a_package_for_rayjobs_hands_the_trainings_sizes_on_and_leaves_its_own_pod_small(tmp_path):
    """`prompt_tuning` itself, which runs on a laptop, and every other step stay as they are."""
    of = {}
    for backend in ("rayjob", "local"):
        file = tmp_path / f"{backend}.yaml"
        compile_pipeline(file, PodSettings(backend=backend, steps={"tune_prompt": StepPod(accelerator="nvidia.com/gpu")}))
        of[backend] = Package(file)
    applied = lambda backend, step: {
        json_format.MessageToDict(one)["field"]: one.apply_to_task
        for one in of[backend].spec.components[f"comp-{step}"].task_config_passthroughs
    }
    placed = {"RESOURCES", "KUBERNETES_TOLERATIONS", "KUBERNETES_NODE_SELECTOR", "KUBERNETES_AFFINITY"}
    assert {field for field, own in applied("rayjob", "tune-prompt").items() if not own} == placed
    assert set(applied("local", "tune-prompt")) == set(applied("rayjob", "tune-prompt")) == placed | {"ENV", "KUBERNETES_VOLUMES"}
    for backend, step in (("local", "tune-prompt"), ("rayjob", "evaluate-prompt"), ("rayjob", "validate-dataset")):
        assert all(applied(backend, step).values())
    assert of["rayjob"].container("tune_prompt").resources.accelerator.resource_type == "nvidia.com/gpu"


def test_compiling_starts_without_torch_or_pyarrow():
    code = "import sys, pipelines.compile; print({'torch', 'pyarrow', 'ray', 'mlflow'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "set()"
