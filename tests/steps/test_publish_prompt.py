"""`publish_prompt` through KFP's local runner: blobs, one signed generation that names them; or nothing."""

import base64
import json
import re

from softprompt.artifact import PromptFile
from softprompt.data.dataset import read_part
from softprompt.documents import sha256_hex
from softprompt.release.publish_prompt import PublishOutcome
from tests.runs import softprompt


def generation(content, number):
    """What generation `number` states, as anybody reads it who has the object."""
    envelope = json.loads(content[f"channels/laptop/{number:012d}.json"])
    return json.loads(base64.b64decode(envelope["payload"]))


def test_the_first_prompt_is_generation_two(passed_run):
    outcome = PublishOutcome.from_bytes(passed_run.output("publish_prompt", "publication").read_bytes(), source="output")
    assert (outcome.outcome, outcome.channel, outcome.generation) == ("published", "laptop", 2)
    assert outcome.prompt_digest == passed_run.summary.prompt


def test_the_store_holds_immutable_blobs_and_generations_and_nothing_else(passed_run, objects):
    kinds = (r"blobs/sha256/[0-9a-f]{64}", r"(channels/laptop|roots)/[0-9]{12}\.json", r"probe/conditional-write")
    content = objects(passed_run)
    assert [key for key in content if not any(re.fullmatch(kind, key) for kind in kinds)] == []
    for key, data in content.items():
        if key.startswith("blobs/"):
            assert key == f"blobs/sha256/{sha256_hex(data)}"


def test_generation_one_is_empty_and_two_names_the_prompt_its_base_and_its_evidence(passed_run, objects):
    content = objects(passed_run)
    assert generation(content, 1)["predicate"]["state"]["prompts"] == {}
    state = generation(content, 2)["predicate"]["state"]
    digest, base = passed_run.summary.prompt, passed_run.summary.base_fingerprint
    assert state["prompts"]["colours"]["bases"] == {base: [{"prompt": digest, "weight": 1}]}
    evidence = state["approvals"][digest]["evidence"]
    for name, output in {
        "gate_report.json": ("evaluate_prompt", "gate_report"),
        "training_log.json": ("tune_prompt", "training_log"),
    }.items():
        assert content[f"blobs/sha256/{evidence[name]}"] == passed_run.output(*output).read_bytes()


def test_the_blobs_are_the_prompt_file(passed_run, objects):
    content = objects(passed_run)
    manifest = content[f"blobs/sha256/{passed_run.summary.prompt}"]
    tensor = content[f"blobs/sha256/{json.loads(manifest)['parts'][0]['sha256']}"]
    assert PromptFile.from_bytes(manifest, tensor, source="store") == PromptFile.read(passed_run.output("tune_prompt", "prompt"))


def test_a_second_publish_is_one_generation_more_that_follows_the_first(passed_run, run_after_kill, objects):
    content = objects(passed_run)
    assert run_after_kill.summary.publication in ("published", "unchanged")
    newest = run_after_kill.summary.generation
    assert newest == (3 if run_after_kill.summary.publication == "published" else 2)
    assert [key for key in content if key.startswith("channels/")] == [
        f"channels/laptop/{n + 1:012d}.json" for n in range(newest)
    ]
    assert generation(content, newest)["predicate"]["previous"] == sha256_hex(content[f"channels/laptop/{newest - 1:012d}.json"])


def test_nothing_is_published_for_a_rejected_prompt(rejected_run, objects):
    assert not rejected_run.output("publish_prompt", "publication").exists()
    content = objects(rejected_run)
    assert [key for key in content if key.startswith("channels/")] == ["channels/laptop/000000000001.json"]
    assert f"blobs/sha256/{rejected_run.summary.prompt}" not in content


def test_ask_answers_with_the_published_prompt_and_shows_the_bare_base_beside_it(run_after_kill):
    report = json.loads(run_after_kill.output("evaluate_prompt", "gate_report").read_bytes())
    row = report["rows"][0]
    line = int(row["id"].split(":")[1])
    text = json.loads((run_after_kill.recipe.with_name("colours.jsonl")).read_text().splitlines()[line - 1])["text"]
    result = softprompt("ask", text, "--prompt", "colours", "--compare", home=run_after_kill.home)
    assert result.returncode == 0, result.stderr
    answer, confidence, bare, source = result.stdout.splitlines()
    assert answer == row["outputs"]["soft_prompt"], "the same as in the evaluation"
    assert confidence == f"confidence {row['confidence']:.2f}"
    assert bare == f"bare base: {row['outputs']['bare_base']}"
    assert source == f"prompt sha256:{run_after_kill.summary.prompt[:12]}, laptop generation {run_after_kill.summary.generation}"


def test_status_shows_the_channel_and_the_runs(run_after_kill):
    result = softprompt("status", home=run_after_kill.home)
    assert result.returncode == 0, result.stderr
    assert f"channel laptop, generation {run_after_kill.summary.generation}, signed 20" in result.stdout
    served = next(line for line in result.stdout.splitlines() if line.split()[:1] == ["colours"])
    assert served.split() == [
        "colours",
        run_after_kill.summary.prompt[:12],
        run_after_kill.summary.base_fingerprint[:12],
        "1",
        "passed",
    ]
    runs = [line.split() for line in result.stdout.splitlines() if re.match(r" 20\d{6}-", line)]
    assert [run[1:4] for run in runs] == [["colours", "passed", "1"]] * 2, "the killed one left none"


def test_what_the_prompt_has_seen_is_evidence(passed_run, objects):
    content = objects(passed_run)
    state = generation(content, 2)["predicate"]["state"]
    data = content[f"blobs/sha256/{state['approvals'][passed_run.summary.prompt]['evidence']['seen_inputs.bin']}"]
    dataset = passed_run.output("validate_dataset", "dataset")
    seen = {row.input_digest[:16] for part in ("train", "validation") for row in read_part(dataset, part)}
    assert [data[at : at + 8].hex() for at in range(0, len(data), 8)] == sorted(seen)
