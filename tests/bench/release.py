"""Publishing many prompts, catching up, checking all of it: time and S3 requests, beside a folder and a pointer.

    python -m tests.bench.release [--quick] [--prompts 1000] [--json FILE]

A real S3 server on loopback (versitygw); requests are counted where botocore sends them. The baseline is what one would write
first: the same files put with boto3 one after the other under a version's folder, then one mutable object `latest` that names
them, read back by nobody's check. It signs nothing, so whoever may write may serve; two publishers overwrite each other's
`latest` and lose an update; a lost reply cannot be told from a failure; an old `latest` can be put back unnoticed.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from softprompt.artifact import PromptFile
from softprompt.release.blobs import prompt_blobs
from softprompt.release.care.verify_store import verify_store
from softprompt.release.planning.plan import Plan
from softprompt.release.s3_client import S3Access, s3_client
from softprompt.release.statement import ChannelState, Generation, Served, Share
from softprompt.release.store import S3Store
from tests.bench.rows import BenchRow, bench_arguments, show
from tests.prompts import random_prompt_file
from tests.reliability.servers import BUCKET, versitygw_server
from tests.reliability.world import BASE, CHANNEL, World, approval

BEHIND = (1, 10, 100)
IMPORTS = {
    "the release package": "softprompt.release",
    "what a node imports": "softprompt.release.reader",
    "what a publisher imports": "softprompt.release.publish_prompt",
}


def make(seed: int) -> PromptFile:
    """A shallow prompt of 20 vectors of 512 numbers: 40 KB."""
    return random_prompt_file(seed, num_tokens=20, width=512, base=BASE)


def state_of(prompts: dict[str, PromptFile]) -> ChannelState:
    """Each name means its prompt."""
    return ChannelState(
        prompts={name: Served(bases={BASE: (Share(prompt=file.digest),)}) for name, file in prompts.items()},
        approvals={file.digest: approval(file) for file in prompts.values()},
        numerics=("float32",),
    )


class Counted:
    """A client whose requests are counted.

    Args:
        access: The server.
    """

    def __init__(self, access: S3Access) -> None:
        self.client, self._requests = s3_client(access), 0
        self.client.meta.events.register("before-send.s3", self._count)

    def _count(self, **_: object) -> None:
        self._requests += 1

    def measure(self, work: Callable[[], Any]) -> tuple[float, int]:
        """Seconds, and requests."""
        before, start = self._requests, time.perf_counter()
        work()
        return time.perf_counter() - start, self._requests - before


class Ours:
    """A channel and what is asked of it."""

    def __init__(self, access: S3Access, folder: Path) -> None:
        self.counted, self.prompts, self.blobs = Counted(access), dict[str, PromptFile](), dict[str, bytes]()
        self.world = World(S3Store(BUCKET, "ours", self.counted.client), folder, now=time.time())

    def publish(self, changed: dict[str, PromptFile]) -> None:
        """One generation with these names changed; all prompts at hand, as a reconciler has them."""
        self.prompts |= changed
        state = state_of(self.prompts)

        def decide(head: Generation) -> Plan:
            return Plan(outcome="unchanged" if head.state == state else "change", state=state)

        for file in changed.values():
            self.blobs |= prompt_blobs(file) | {approval(file).digest: approval(file).to_bytes()}
        assert self.world.publisher("machine").publish(decide, blobs=self.blobs).outcome == "published"

    def refresh(self, node: str) -> None:
        """What a node does when it starts, or when it looks again."""
        snapshot = self.world.reader(node).refresh()
        assert not snapshot.stale, snapshot.alarms

    def verify(self) -> None:
        """What `softprompt release verify` does."""
        found = verify_store(self.world.store, self.world.trust, [CHANNEL], now=time.time())
        assert found.whole, found.problems
        assert found.num_blobs == len(self.blobs)


class Pointer:
    """Files in a folder of their own for each version, and a mutable object that names the newest."""

    def __init__(self, access: S3Access) -> None:
        self.counted, self.version = Counted(access), 0

    def publish(self, prompts: dict[str, PromptFile]) -> None:
        """The files one after the other, then the pointer."""
        self.version += 1
        named = {}
        for name, file in prompts.items():
            for part, data in (("manifest.json", file.manifest.to_bytes()), ("adapter_model.safetensors", file.tensor)):
                self.counted.client.put_object(Bucket=BUCKET, Key=f"pointer/{self.version}/{name}/{part}", Body=data)
            named[name] = f"pointer/{self.version}/{name}"
        self.counted.client.put_object(Bucket=BUCKET, Key="pointer/latest", Body=json.dumps(named).encode())

    def read(self) -> None:
        """The pointer, then the files one after the other."""
        named = json.loads(self._get("pointer/latest"))
        for folder in named.values():
            for part in ("manifest.json", "adapter_model.safetensors"):
                self._get(f"{folder}/{part}")

    def _get(self, key: str) -> bytes:
        return bytes(self.counted.client.get_object(Bucket=BUCKET, Key=key)["Body"].read())


def import_seconds(modules: str) -> float:
    """Processor time of importing modules beside that of an empty Python, the median of five; no torch in it."""
    heavy = "{'torch', 'transformers', 'mlflow', 'ray', 'kfp'}"
    return _median_seconds(f"import sys, {modules}; assert not {heavy} & sys.modules.keys()") - _median_seconds("import sys")


def _median_seconds(program: str) -> float:
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", program], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(seconds)


def rows_of(name: str, ours: tuple[float, int], theirs: tuple[float, int]) -> list[BenchRow]:
    """Seconds and requests beside the baseline's."""
    return [
        BenchRow.compare(f"{name}: seconds", ours[0], "s", theirs[0]),
        BenchRow.compare(f"{name}: requests", ours[1], "requests", theirs[1]),
    ]


def measure(access: S3Access, folder: Path, num_prompts: int, behind: Sequence[int]) -> list[BenchRow]:
    """All of it, on one server."""
    ours, pointer = Ours(access, folder), Pointer(access)
    prompts = {f"name-{number}": make(number) for number in range(num_prompts)}
    table = rows_of(
        f"publish {num_prompts:,} prompts in one generation",
        ours.counted.measure(lambda: ours.publish(prompts)),
        pointer.counted.measure(lambda: pointer.publish(prompts)),
    )
    pointer_read = pointer.counted.measure(pointer.read)
    table += rows_of("a new node", ours.counted.measure(lambda: ours.refresh("cold")), pointer_read)
    table += rows_of("a node that starts again", ours.counted.measure(lambda: ours.refresh("cold")), pointer_read)
    seed, done = num_prompts, 0
    nodes = {count: f"behind-{count}" for count in behind}
    again = pointer.counted.measure(lambda: pointer.publish(prompts | {"name-0": make(seed)}))
    for count in sorted(behind, reverse=True):
        ours.refresh(nodes[count])
        for _ in range(count):
            seed += 1
            one = ours.counted.measure(lambda seed=seed: ours.publish({f"name-{seed % num_prompts}": make(seed)}))
            if not done:
                table += rows_of(f"publish one of {num_prompts:,} again", one, again)
            done += 1
        caught_up = ours.counted.measure(lambda count=count: ours.refresh(nodes[count]))
        table += rows_of(f"a node {count} generations behind", caught_up, pointer_read)
    table += rows_of(f"a new node after {done + 2} generations", ours.counted.measure(lambda: ours.refresh("late")), pointer_read)
    table += rows_of(f"verify {done + 2} generations and all blobs", ours.counted.measure(ours.verify), pointer_read)
    return table


def main() -> None:
    """Measure, print, write."""
    parser = bench_arguments(__doc__ or "")
    parser.add_argument("--prompts", type=int, default=0, help="default 1,000, or 50 with --quick")
    parser.add_argument("--behind", type=int, nargs="+", default=BEHIND, help="how many generations a node may be behind")
    options = parser.parse_args()
    num_prompts = options.prompts or (50 if options.quick else 1000)
    with tempfile.TemporaryDirectory() as folder, versitygw_server(Path(folder) / "s3") as access:
        table = measure(access, Path(folder) / "state", num_prompts, (1, 10) if options.quick else options.behind)
    for name, modules in IMPORTS.items():
        table.append(BenchRow.compare(f"import of {name}: wanted 0.3 s", import_seconds(modules), "s", 0.3))
    show("Release", table, options.json)


if __name__ == "__main__":
    main()
