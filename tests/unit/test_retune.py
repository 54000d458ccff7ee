"""Which prompts of a channel are brought to a new base model, by which recipes, and how it is told; no run is made here."""

import pytest

from softprompt.artifact import PromptFile
from softprompt.deployment import laptop
from softprompt.errors import InvalidRequest, StoreUnavailable, VerificationFailed
from softprompt.fetch import fetch_prompt
from softprompt.fetch.published import published_uri
from softprompt.recipe.reader import read_recipe
from softprompt.release.publish_prompt import publish_prompt
from softprompt.release.store import open_store
from softprompt.retune import RetuneReport, RetuneResult, find_retunings, retune_there
from softprompt.run_channel import RECIPE_FILE
from softprompt.settings import Settings
from tests.builders import prompt_file, save_llama
from tests.kfp_server import kfp_server, short_package

RECIPE = """schema_version: 1
name: {name}
channel: laptop
base_model: {{uri: s3://models/old}}
dataset: {{uri: s3://data/colours.jsonl, target_column: colour}}
task: {{type: classification, template: "Thing: {{text}}\\nColour:"}}
prompt: {{num_tokens: 4, init: {{method: text, text: "Say a colour."}}}}
training: {{steps: 7, seed: 3}}
gates: [{{metric: accuracy, not_worse_than: champion, margin: 0.1}}]
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A laptop whose channel serves two prompts, one of which nobody knows the recipe of."""
    folder = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTPROMPT_CACHE", str(folder / "cache"))
        settings = Settings.from_environment({"SOFTPROMPT_HOME": str(folder / "home")})
        with laptop(settings):
            files = {name: prompt_file(seed=seed) for seed, name in enumerate(["colours", "forgotten"])}
            for name, file in files.items():
                text = RECIPE.format(name=name)
                evidence = {RECIPE_FILE: read_recipe(text, source="x").to_bytes()} if name == "colours" else {}
                publish(settings, file, name, evidence)
            yield settings, files


def publish(settings: Settings, file: PromptFile, name: str, evidence: dict[str, bytes]) -> None:
    outcome = publish_prompt(
        prompt=file,
        name=name,
        channel="laptop",
        verdict="passed",
        evidence=evidence,
        model_version="",
        numerics="float32",
        store=open_store(settings.store),
        policy_dir=settings.policies,
        trust_root=settings.trust_root,
        signing_key=settings.signing_key("laptop"),
        state_dir=settings.journal,
    )
    assert outcome.outcome == "published"


@pytest.fixture(scope="module")
def new_base(tmp_path_factory):
    return save_llama(tmp_path_factory.mktemp("bases") / "new", seed=1)


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return short_package(tmp_path_factory.mktemp("package") / "package.yaml")


@pytest.fixture(autouse=True)
def same_cache(shop, monkeypatch):
    monkeypatch.setenv("SOFTPROMPT_CACHE", str(shop[0].home.parent / "cache"))


def test_a_recipe_keeps_everything_but_its_base_and_its_start(shop, new_base):
    settings, files = shop
    (found,), _ = find_retunings(settings, "laptop", new_base.as_uri(), names=["colours"])
    before = read_recipe(RECIPE.format(name="colours"), source="x").model_dump(mode="json")
    after = found.recipe.model_dump(mode="json")
    assert after["base_model"].pop("uri") == new_base.as_uri()
    assert before["base_model"].pop("uri") == "s3://models/old"
    start = {"method": "prompt", "uri": published_uri(settings.store, files["colours"].digest), "any_base": True}
    assert after["prompt"].pop("init") == start
    before["prompt"].pop("init")
    assert after == before


def test_the_recipe_that_is_sent_reads_back_as_itself(shop, new_base):
    (found,), _ = find_retunings(shop[0], "laptop", new_base.as_uri(), names=["colours"])
    assert "\n" in found.text, "else it would be taken for a name"
    assert read_recipe(found.text, source="sent") == found.recipe


def test_the_old_prompt_can_be_had_by_the_uri_that_the_recipe_names(shop, new_base):
    settings, files = shop
    (found,), _ = find_retunings(settings, "laptop", new_base.as_uri(), names=["colours"])
    folder, digest = fetch_prompt(found.recipe.prompt.init.uri)
    assert digest == files["colours"].digest == PromptFile.read(folder).digest
    assert fetch_prompt(found.recipe.prompt.init.uri, expected_sha256=digest)[0] == folder
    with pytest.raises(VerificationFailed, match="changed since the run began"):
        fetch_prompt(found.recipe.prompt.init.uri, expected_sha256="0" * 64)


@pytest.mark.parametrize("uri", ["s3://softprompt/prompts/1", "s3://softprompt/blobs/sha256/12", "s3://softprompt"])
def test_no_other_place_of_a_store_is_a_prompt(uri):
    with pytest.raises(InvalidRequest, match="No published prompt lies there"):
        fetch_prompt(uri)


def test_a_prompt_without_a_recipe_is_a_result_and_keeps_nobody_else_back(shop, new_base):
    wanted, left = find_retunings(shop[0], "laptop", new_base.as_uri())
    assert [one.name for one in wanted] == ["colours"]
    assert [(one.name, one.outcome, one.exit_code) for one in left] == [("forgotten", "failed", 2)]
    assert "Nobody knows the recipe" in left[0].note


def test_a_name_with_a_prompt_of_that_base_is_left_out_unless_it_is_asked_for(shop, tmp_path):
    settings, _ = shop
    base = save_llama(tmp_path / "served", seed=2)
    from softprompt.fingerprint import fingerprint

    publish(
        settings,
        prompt_file(seed=5, fingerprint=fingerprint(base)),
        "colours",
        {RECIPE_FILE: read_recipe(RECIPE.format(name="colours"), source="x").to_bytes()},
    )
    wanted, left = find_retunings(settings, "laptop", base.as_uri(), names=["colours"])
    assert (wanted, [one.outcome for one in left]) == ([], ["skipped"])
    wanted, left = find_retunings(settings, "laptop", base.as_uri(), names=["colours"], again=True)
    assert ([one.name for one in wanted], left) == (["colours"], [])


def test_where_the_base_is_not_here_its_uri_decides(shop):
    _, left = find_retunings(shop[0], "laptop", "s3://models/old", names=["colours"], look_at_base=False)
    assert [one.outcome for one in left] == ["skipped"]
    wanted, _ = find_retunings(shop[0], "laptop", "hf://org/new@1", names=["colours"], look_at_base=False)
    assert [one.recipe.base_model.uri for one in wanted] == ["hf://org/new@1"]


def test_a_name_that_the_channel_does_not_serve_is_refused(shop, new_base):
    with pytest.raises(InvalidRequest, match="serves no such name") as refused:
        find_retunings(shop[0], "laptop", new_base.as_uri(), names=["colour"])
    assert refused.value.expected == "among colours, forgotten"


@pytest.mark.parametrize(
    ("codes", "expected"), [((0, 0), 0), ((0, 4), 4), ((6, 4), 4), ((6, 0), 6), ((4, 5), 5), ((2, 4), 2), ((7, 5), 7), ((), 0)]
)
def test_the_worst_of_all_is_the_command_s_exit_code(codes, expected):
    results = tuple(RetuneResult(name=f"n{number}", outcome="x", exit_code=code) for number, code in enumerate(codes))
    assert RetuneReport(channel="laptop", base_model="x", results=results).exit_code == expected


def test_runs_on_a_cluster_are_all_started_before_one_is_followed(shop, new_base, monkeypatch, package):
    from pipelines.remote import Kubeflow, Server

    monkeypatch.setattr("pipelines.remote.time.sleep", lambda seconds: None)
    (found,), _ = find_retunings(shop[0], "laptop", new_base.as_uri(), names=["colours"])
    others = [found, found.__class__(**(vars(found) | {"name": "other"}))]
    said = []
    with kfp_server(looks=[{"run": "SUCCEEDED", "publish-prompt": "SUCCEEDED"}]) as server:
        results = retune_there(others, Kubeflow(Server(host=server.url)), shop[0], said.append, package=package)
    posts = [number for number, request in enumerate(server.requests) if request == "POST /apis/v2beta1/runs"]
    looks = [number for number, request in enumerate(server.requests) if request.startswith("GET /apis/v2beta1/runs/")]
    assert len(posts) == 2
    assert max(posts) < min(looks)
    sent = [run["runtime_config"]["parameters"]["recipe"] for run in server.runs.values()]
    assert sent == [found.text, found.text]
    assert [(one.name, one.outcome, one.exit_code) for one in results] == [
        (name, "not rejected", 0) for name in ("colours", "other")
    ]
    assert all("MLFLOW_TRACKING_URI is not set" in one.note for one in results)
    assert all("/#/runs/details/" in one.page for one in results)


def test_a_run_that_fails_on_a_cluster_is_a_result(shop, new_base, monkeypatch, package):
    from pipelines.remote import Kubeflow, Server

    monkeypatch.setattr("pipelines.remote.time.sleep", lambda seconds: None)
    (found,), _ = find_retunings(shop[0], "laptop", new_base.as_uri(), names=["colours"])
    with kfp_server(looks=[{"run": "FAILED", "tune-prompt": "FAILED"}]) as server:
        far = Kubeflow(Server(host=server.url))
        (result,) = retune_there([found], far, shop[0], lambda line: None, package=package)
        (started,) = retune_there([found], far, shop[0], lambda line: None, package=package, follows=False)
    assert (result.outcome, result.exit_code) == ("failed", 5)
    assert "tune_prompt" in result.note
    assert (started.outcome, started.exit_code) == ("started", 0)


def test_a_channel_that_cannot_be_read_is_no_empty_channel(shop, new_base, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    fresh = Settings.from_environment({"SOFTPROMPT_HOME": str(shop[0].home.parent / "elsewhere")})
    fresh = fresh.__class__(**(vars(fresh) | {"trust_root": shop[0].trust_root}))
    with pytest.raises(StoreUnavailable):
        find_retunings(fresh, "laptop", new_base.as_uri())
