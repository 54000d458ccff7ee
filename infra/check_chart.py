"""Render the chart with each of its example values and hold every object against the schemas of several Kubernetes versions.

The schemas are those of the API servers' own OpenAPI, strict: a field that a version does not know is an error, as it is to
`kubectl apply`. YAML is read as they read it, by version 1.1. Objects of other projects' kinds have none there and are named at
the end. Needs `helm` on PATH.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

CHART = Path(__file__).resolve().parents[1] / "charts" / "softprompt"
VERSIONS = ("1.30", "1.31", "1.32", "1.33", "1.34", "1.35", "1.36", "1.37")
"""From the oldest that Chart.yaml allows to the newest that there are schemas of."""


def render(values: Path, version: str) -> list[dict[str, Any]]:
    """The objects of a release with some values, tests included, as for one Kubernetes version."""
    command = ["helm", "template", "softprompt", CHART, "--namespace", "prompts", "--kube-version", version, "--values", values]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{values.name}: {done.stderr}")
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def faults(objects: list[dict[str, Any]], version: str, unknown: set[str]) -> Iterator[str]:
    """What is wrong with objects, a line each; kinds without a schema go into `unknown`."""
    for found in objects:
        try:
            kubernetes_validate.validate(found, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            where = ".".join(map(str, error.path))
            yield f"{found['kind']} {found['metadata']['name']}: {where}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            unknown.add(f"{found['kind']} ({found['apiVersion']})")


def main() -> int:
    """Print what was checked and what is wrong; the exit code."""
    unknown: set[str] = set()
    num_faults = 0
    for values in sorted((CHART / "ci").glob("*-values.yaml")):
        for version in VERSIONS:
            objects = render(values, version)
            found = list(faults(objects, version, unknown))
            num_faults += len(found)
            print(f"{values.name}, Kubernetes {version}: {len(objects)} objects, {len(found)} faults", *found, sep="\n  ")
    print("no schema for", ", ".join(sorted(unknown)) or "none")
    return min(num_faults, 1)


if __name__ == "__main__":
    sys.exit(main())
