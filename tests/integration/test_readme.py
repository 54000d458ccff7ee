"""Every command in README.md and docs/ runs, in order, as a reader would type it; the demo is the first of them."""

import importlib.util
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from softprompt.resolve import packaged_recipes
from tests.pages import blocks
from tests.runs import environment

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RUNS_FOR_EVER = {"softprompt ui": "http://127.0.0.1:5000/health"}
"""Commands that end with Ctrl-C, and where they answer meanwhile."""
HEAVY = ("softprompt run my-recipe.yaml",)
"""A minute each, and another test's business too: by default they are left out."""
OTHER_TESTS = {"cluster.md": "tests/cluster", "promotion.md": "tests/integration/release/test_promotion_guide.py"}
"""Pages that need a cluster or a Git repository from their first line to their last, and what does the same there."""
ELSEWHERE = ("banking77", "helm", "kubectl", "make")
"""Commands with these words need other data, a cluster, or would run this test again; other tests cover them."""


def commands(page: Path) -> list[str]:
    """What stands behind `$ ` in the page's console blocks."""
    typed = blocks(page.read_text(encoding="utf-8"), "console")
    return [line[2:] for block in typed for line in block.splitlines() if line.startswith("$ ")]


def readme_recipe() -> str:
    """The recipe that README says to save."""
    return blocks((ROOT / "README.md").read_text(encoding="utf-8"), "yaml")[0]


def runnable(page: Path) -> list[str]:
    return [command for command in commands(page) if not any(word in command.split() for word in ELSEWHERE)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with nothing in it but what README says to save, and the demo run in it."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my-recipe.yaml").write_text(readme_recipe())
    began = time.monotonic()
    run("softprompt demo --json demo.json", folder)
    (folder / "seconds").write_text(str(time.monotonic() - began))
    return folder


def run(command: str, folder: Path) -> str:
    done = subprocess.run(_argv(command), cwd=folder, env=_environment(), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _argv(command: str) -> list[str]:
    """The command as in an activated virtual environment."""
    program, *arguments = shlex.split(command)
    return [str(Path(sys.executable).with_name(program)), *arguments]


def _environment() -> dict[str, str]:
    """The reader's: no variable of ours set, so that state lies where README says."""
    return {name: value for name, value in environment(Path("unused")).items() if not name.startswith("SOFTPROMPT_")}


@pytest.fixture(scope="module")
def demo(place):
    return json.loads((place / "demo.json").read_text())


def test_demo_reaches_what_readme_promises(demo):
    soft, bare = demo["metrics"]["soft_prompt"]["accuracy"], demo["metrics"]["bare_base"]["accuracy"]
    assert demo["verdict"] == "passed"
    assert soft >= 0.90
    assert bare < 0.40
    assert demo["metrics"]["instruction"]["accuracy"] < soft
    assert demo["prompt_num_tokens"] == 20
    assert demo["prompt_bytes"] < (64_000 if demo["prompt_kind"] == "shallow" else 256_000)
    assert demo["base_unchanged"] is True
    assert (demo["publication"], demo["generation"] > 0, demo["version"]) == ("published", True, "1")


def test_demo_tells_where_its_time_went(demo):
    steps = ["resolve_recipe", "validate_dataset", "tune_prompt", "evaluate_prompt", "register_prompt", "publish_prompt"]
    assert [step for step in demo["seconds"] if step in steps] == steps
    assert sum(demo["seconds"].values()) <= demo["total_seconds"]


def test_demo_report_is_one_self_contained_page(demo):
    page = Path(demo["report"]).read_text(encoding="utf-8")
    assert "<svg" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page), "nothing is loaded from elsewhere"


def test_ask_answers_as_readme_shows(place):
    shown = run('softprompt ask "My parcel has not arrived yet" --prompt support-triage --compare', place)
    assert shown.splitlines()[0] == "road"
    assert "bare base" in shown
    assert "generation" in shown


def _run_commands(page: Path, place: Path, *, heavy: bool) -> None:
    for command in runnable(page):
        if command in RUNS_FOR_EVER:
            _run_until_it_answers(command, RUNS_FOR_EVER[command], place)
        elif heavy or command not in HEAVY:
            run(command, place)


def test_commands_of_readme_run(place):
    _run_commands(ROOT / "README.md", place, heavy=False)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.name not in OTHER_TESTS], ids=lambda page: page.name)
def test_commands_of_a_page_run_one_after_the_other(page, place):
    _run_commands(page, place, heavy=True)


def _run_until_it_answers(command: str, url: str, folder: Path) -> None:
    with subprocess.Popen(_argv(f"{command} --no-open"), cwd=folder, env=_environment(), start_new_session=True) as process:
        try:
            assert _answers(url, process), f"{command} does not answer at {url}"
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(30)


def _answers(url: str, process: "subprocess.Popen[bytes]", seconds: float = 90) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return reply.status == 200
        except OSError:
            time.sleep(0.5)
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_files_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word for command in re.findall(r"`make ([a-z-]+)|^\$ make ([a-z-]+)", text, re.MULTILINE) for word in command if word
    }
    assert named <= targets
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_recipes_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"python -m ((?:softprompt|tests)[\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for recipe in re.findall(r"softprompt run ([a-z0-9][a-z0-9-]*)(?=[` ]|$)", text, re.MULTILINE):
        assert recipe in packaged_recipes(), recipe


def test_readme_recipe_has_ten_lines_or_fewer():
    assert len(readme_recipe().splitlines()) <= 10


def test_readme_tree_names_what_is_there():
    block = (ROOT / "README.md").read_text(encoding="utf-8").split("## The tree\n\n```\n")[1].split("```")[0]
    for line in block.splitlines():
        names = re.findall(r"[\w./-]+[/y](?=\s|$|;)", line.split("   ")[0]) if not line.startswith(" ") else [line.split()[0]]
        for name in names:
            path = (ROOT / "softprompt" / name) if line.startswith(" ") else ROOT / name
            assert path.exists(), path
