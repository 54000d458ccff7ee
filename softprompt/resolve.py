"""The step `resolve_recipe`: a recipe with every default filled in and every reference replaced by a digest.

Runs start from a form in the Kubeflow UI as well as from our command line, so resolution is a step of the run. Later steps take
its JSON and nothing else from outside; what they may cache on is in it.
"""

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from typing import Literal

from softprompt import __version__
from softprompt.artifact import Sha256
from softprompt.base_model import require_packages
from softprompt.documents import Document, sha256_hex
from softprompt.errors import InvalidRecipe
from softprompt.fetch import absolute_uri, cache_folder, dataset_sha256, fetch_base, fetch_bytes, fetch_dataset, fetch_prompt
from softprompt.fingerprint import fingerprint
from softprompt.progress import tell
from softprompt.recipe import Recipe
from softprompt.recipe.prompt import InitSpec, PromptInit
from softprompt.recipe.reader import read_recipe
from softprompt.yaml_reader import MAX_YAML_BYTES

STEP = "resolve_recipe"
DATASET_MANIFEST_FILE = "manifest.json"
DATASET_TEST_FILE = "test.parquet"
MOST_BYTES = 1024 * 1024 * 1024
"""Of a file of rows that stands beside the dataset."""
MOST_RESOLVED_BYTES = 96 * 1024
"""Of the result: steps get it as a part of one argument of a command, and Linux takes 128 KiB of one."""
RECIPES_PACKAGE = "pipelines"


class ResolvedBase(Document):
    """The base model as it is now."""

    uri: str
    fingerprint: Sha256


class ResolvedFile(Document):
    """A dataset file as it is now."""

    uri: str
    sha256: Sha256


class ResolvedChampion(Document):
    """The prompt that the channel serves, and where what is compared with it lies."""

    prompt: Sha256
    """Its digest; the prompt file's parts are blobs of the store."""
    store: str
    """URI of the store."""
    seen_inputs: str = ""
    """Digest of the blob that says which inputs it was tuned on; empty: its evidence has none."""
    gate_report: str = ""
    """Digest of the blob with its own evaluation; empty: its evidence has none."""


class ResolvedRecipe(Document):
    """Everything that determines what a run computes."""

    schema_version: Literal[1] = 1
    recipe: Recipe
    source: str
    """Where the recipe came from: a packaged name, a URI, or `(text)`."""
    base: ResolvedBase
    dataset: ResolvedFile
    test_dataset: ResolvedFile | None
    starts: tuple[ResolvedFile, ...] = ()
    """Prompts that training starts from, sorted by URI; sha256 over their files."""
    reference: ResolvedFile | None = None
    """What drift is measured against: the manifest of a dataset artifact, or the profile in the champion's evidence."""
    champion: str
    """Digest of the prompt that the channel serves under this name now, on this base model if it serves one there; empty: none,
    or the channel was not asked."""
    champion_file: ResolvedChampion | None = None
    """Where the champion lies; None: there is none."""
    earlier: ResolvedFile | None = None
    """Test rows of `evaluation.earlier`."""
    paraphrases: ResolvedFile | None = None
    """Of `evaluation.paraphrases`."""
    tool_version: str
    code_digest: Sha256
    """sha256 over the library's source, so that a cached step of other code is never taken for this one's."""


class Overrides(Document):
    """What the run form or the command line changes in a recipe; empty values change nothing."""

    base_model: str = ""
    dataset: str = ""
    channel: str = ""
    prompt_name: str = ""
    prompt_kind: str = ""
    num_tokens: int = 0
    seed: int = -1
    num_workers: int = 0


def resolve_recipe(recipe: str, overrides: Overrides | None = None, *, champion: str = "") -> ResolvedRecipe:
    """Read a recipe, apply overrides, and replace its references by digests.

    Args:
        recipe: A packaged name (`demo`), a path or `file://` URI, or the YAML text itself.
        overrides: Changes from the run form.
        champion: Digest that the target channel serves now.

    Raises:
        InvalidRecipe: The recipe, an override, or their combination is wrong.
        BaseModelUnavailable, DatasetRefused: What it refers to is not there.
    """
    text, source, folder = find_recipe(recipe)
    parsed = apply_overrides(read_recipe(text, source=source), overrides or Overrides(), folder)
    require_packages(parsed.base_model.dtype)
    base_directory = fetch_base(parsed.base_model.uri)
    resolved = ResolvedRecipe(
        recipe=parsed,
        source=source,
        base=ResolvedBase(uri=parsed.base_model.uri, fingerprint=fingerprint(base_directory, cache=cache_folder())),
        dataset=_resolved_file(parsed.dataset.uri),
        test_dataset=_resolved_file(parsed.dataset.test_uri) if parsed.dataset.test_uri else None,
        starts=_resolved_starts(parsed),
        reference=_resolved_reference(parsed.dataset.reference),
        earlier=_resolved_at(f"{parsed.evaluation.earlier.rstrip('/')}/{DATASET_TEST_FILE}" if parsed.evaluation.earlier else ""),
        paraphrases=_resolved_at(parsed.evaluation.paraphrases),
        champion=champion,
        tool_version=__version__,
        code_digest=code_digest(),
    )
    if (length := len(resolved.to_bytes())) > MOST_RESOLVED_BYTES:
        raise InvalidRecipe(
            "The recipe is too long to be handed from step to step.",
            where=source,
            expected=f"at most {MOST_RESOLVED_BYTES:,} bytes with every default filled in",
            actual=f"{length:,} bytes",
            hint="Shorten the instructions, or have fewer of them.",
        )
    tell(STEP, f"{parsed.name}: {parsed.base_model.uri}, {parsed.dataset.uri}", recipe=parsed.name, digest=resolved.digest)
    return resolved


def find_recipe(recipe: str) -> tuple[str, str, Path]:
    """(YAML text, source for messages, folder from which relative paths count) of a recipe argument.

    Raises:
        InvalidRecipe: There is no such recipe.
    """
    if "\n" in recipe:
        return recipe, "(text)", Path.cwd()
    packaged = Path(str(files(RECIPES_PACKAGE))) / "recipes" / f"{recipe}.yaml"
    if "/" not in recipe and packaged.is_file():
        return packaged.read_text(), f"{recipe}.yaml", packaged.parent
    path = Path(recipe.removeprefix("file://")).expanduser()
    try:
        with path.open("rb") as file:
            return file.read(MAX_YAML_BYTES + 1).decode(), str(path), path.resolve().parent
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRecipe(
            "There is no such recipe.",
            where=recipe,
            expected=f"a YAML file, or one of {', '.join(packaged_recipes())}",
            actual=str(error),
        ) from None


def packaged_recipes() -> list[str]:
    """Names of the recipes that come with softprompt."""
    return sorted(path.stem for path in (Path(str(files(RECIPES_PACKAGE))) / "recipes").glob("*.yaml"))


def apply_overrides(recipe: Recipe, overrides: Overrides, folder: Path) -> Recipe:
    """The recipe with overrides applied and relative paths made absolute; validated again as a whole.

    Raises:
        InvalidRecipe: The combination is not possible.
    """
    changes: dict[str, dict[str, object]] = {
        "base_model": {"uri": absolute_uri(overrides.base_model or recipe.base_model.uri, folder)},
        "dataset": {
            "uri": absolute_uri(overrides.dataset or recipe.dataset.uri, folder),
            "test_uri": absolute_uri(recipe.dataset.test_uri, folder) if recipe.dataset.test_uri else "",
            "reference": absolute_uri(recipe.dataset.reference, folder) if recipe.dataset.reference else "",
        },
        "prompt": _given(kind=overrides.prompt_kind, num_tokens=overrides.num_tokens)
        | {"init": _absolute_init(recipe.prompt.init, folder)},
        "evaluation": {
            key: absolute_uri(uri, folder)
            for key, uri in (("earlier", recipe.evaluation.earlier), ("paraphrases", recipe.evaluation.paraphrases))
            if uri
        },
        "training": _given(num_workers=overrides.num_workers) | ({"seed": overrides.seed} if overrides.seed >= 0 else {}),
    }
    content = recipe.model_dump(mode="json")
    content |= {key: content[key] | change for key, change in changes.items()}
    for candidate, written in zip(recipe.training.candidates, content["training"]["candidates"], strict=True):
        written["init"] = _absolute_init(candidate.init, folder)
    content |= _given(channel=overrides.channel, name=overrides.prompt_name)
    # Written and read again, so that a wrong override is reported like a wrong key of a file (JSON is YAML).
    return read_recipe(json.dumps(content, indent=1), source="recipe with overrides")


def code_digest() -> str:
    """sha256 over the source files of this library, in order of name."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def _given(**values: object) -> dict[str, object]:
    return {key: value for key, value in values.items() if value}


def _absolute_init(init: InitSpec | None, folder: Path) -> dict[str, object] | None:
    if init is None:
        return None
    return init.model_dump(mode="json") | ({"uri": absolute_uri(init.uri, folder)} if isinstance(init, PromptInit) else {})


def _resolved_reference(folder: str) -> ResolvedFile | None:
    return _resolved_at(f"{folder.rstrip('/')}/{DATASET_MANIFEST_FILE}" if folder else "", max_bytes=Document.max_bytes)


def _resolved_at(uri: str, *, max_bytes: int = MOST_BYTES) -> ResolvedFile | None:
    return ResolvedFile(uri=uri, sha256=sha256_hex(fetch_bytes(uri, max_bytes=max_bytes))) if uri else None


def _resolved_starts(recipe: Recipe) -> tuple[ResolvedFile, ...]:
    wishes = [recipe.prompt.init, *(candidate.init for candidate in recipe.training.candidates)]
    uris = sorted({init.uri for init in wishes if isinstance(init, PromptInit)})
    return tuple(ResolvedFile(uri=uri, sha256=fetch_prompt(uri)[1]) for uri in uris)


def _resolved_file(uri: str) -> ResolvedFile:
    return ResolvedFile(uri=uri, sha256=dataset_sha256(fetch_dataset(uri)))
