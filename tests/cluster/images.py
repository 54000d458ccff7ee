"""The images of this working tree on the nodes of a cluster, one for each role.

`python -m tests.cluster.images ROLE...` builds and loads what is missing on this machine's cluster, and prints their names.
"""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from softprompt import __version__
from tests.cluster.kubernetes import ROOT
from tests.cluster.locks import lock
from tests.cluster.machine import PROGRAMS, Machine

Role = Literal["steps", "serving", "release"]


class Images(Protocol):
    """Where images come from."""

    def name(self, role: Role) -> str:
        """`REPOSITORY:TAG` of an image that every node has or can pull."""


@dataclass(frozen=True)
class NamedImages:
    """Images that somebody has put into a registry.

    Attributes:
        pattern: Such as `registry.example/softprompt/{role}:0.1.0`.
    """

    pattern: str

    def name(self, role: Role) -> str:
        """See `Images`."""
        return self.pattern.format(role=role)


@dataclass
class BuiltImages:
    """Images that are built here and loaded onto this machine's nodes, unless those of the same source are there already.

    The tag names the source, so that test runs of several working trees can share a cluster.
    """

    machine: Machine
    _loaded: dict[Role, int] = field(default_factory=dict)
    """Role -> the number of nodes that it was loaded onto."""

    def name(self, role: Role) -> str:
        """See `Images`. Building takes minutes the first time."""
        name, num_nodes = f"softprompt/{role}:{__version__}-{source_digest(role)[:12]}", len(self.machine.nodes())
        if self._loaded.get(role) != num_nodes:
            with lock("image"):
                self.machine.wait_until_whole()  # nothing is loaded onto a node that somebody holds down
                self._ensure(role, name)
            self._loaded[role] = num_nodes
        return name

    def _ensure(self, role: Role, name: str) -> None:
        nodes = self.machine.nodes()
        have = [node for node in nodes if self.machine.has_image(node, name)]
        if not have:
            run, builder = self.machine.kubernetes.run, f"IMAGE_BUILD={PROGRAMS / 'image'} build"
            run("make", f"image-{role}", f"IMAGE_TAG={name.rpartition(':')[2]}", builder, timeout_seconds=1800)
            run(PROGRAMS / "image", "load", name, timeout_seconds=900)
        else:
            for node in set(nodes) - set(have):
                self.machine.copy_image(name, have[0], node)


def source_digest(role: Role) -> str:
    """sha256 over everything that an image is built from: its Containerfile, and what is sent to the builder."""
    digest = hashlib.sha256()
    for path in sorted({ROOT / "infra" / "images" / f"{role}.Containerfile", *_sent()}):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(ROOT)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _sent() -> Iterator[Path]:
    rules = (ROOT / ".containerignore").read_text().split()
    ignored = {rule.removeprefix("**/") for rule in rules if rule.startswith("**/")}
    for rule in rules:
        for place in ROOT.glob(rule[1:]) if rule.startswith("!") else ():
            yield from (path for path in (place, *place.rglob("*")) if path.is_file() and not ignored & set(path.parts))


if __name__ == "__main__":
    here = Machine.here()
    here.start()
    for wanted in sys.argv[1:]:
        print(BuiltImages(here).name(wanted), flush=True)  # type: ignore[arg-type]
