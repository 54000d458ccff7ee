"""An interpreter that can import only what one role's image has: `infra/images/*.txt` and what those packages need."""

from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

IMAGES = Path(__file__).resolve().parents[1] / "infra" / "images"

LIMIT = """
import sys

class Limited:
    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in {absent} else self._finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self._finder, name)

sys.meta_path[:] = map(Limited, sys.meta_path)
"""


def only_packages_of(role: str, folder: Path, *, besides: tuple[str, ...] = ()) -> dict[str, str]:
    """Environment of an interpreter that finds the packages of one role's image and no others, whatever is installed.

    Args:
        role: `serving` or `release`.
        folder: An empty one, for what its start-up reads.
        besides: More distributions, such as the `torch` that an image installs apart.
    """
    wishes = [*_wishes("every-role"), *_wishes(role), "softprompt", *besides]
    present = {name for wish in wishes for name in _with_needs(Requirement(wish), follow="softprompt" not in wish)}
    names = packages_distributions().items()
    absent = {module for module, owners in names if not {canonicalize_name(owner) for owner in owners} & present}
    # So that the test's own tree is found, not a place that another package installs the module at.
    absent -= {"softprompt", "components", "pipelines"}
    (folder / "sitecustomize.py").write_text(LIMIT.format(absent=sorted(absent)))
    return {"PYTHONPATH": f"{folder}:{IMAGES.parents[1]}"}


def _wishes(file: str) -> list[str]:
    lines = (IMAGES / f"{file}.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def _with_needs(wish: Requirement, seen: frozenset[str] = frozenset(), *, follow: bool = True) -> set[str]:
    """Names of a distribution and of everything it needs."""
    name = canonicalize_name(wish.name)
    if name in seen:
        return set()
    try:
        needs = distribution(name).requires or [] if follow else []
    except PackageNotFoundError:
        return set()
    found = {name}
    for need in map(Requirement, needs):
        if any(need.marker is None or need.marker.evaluate({"extra": extra}) for extra in ("", *wish.extras)):
            found |= _with_needs(need, seen | found)
    return found
