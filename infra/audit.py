"""Look up known vulnerabilities of what an image holds: `audit.py SBOM`, a CycloneDX file that `make sbom` wrote.

pip-audit asks PyPI's advisories. Where they cannot be reached it says so and this ends with its exit code, since not having asked
is not the same as there being none.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(bill: Path) -> int:
    """Print what is known; pip-audit's exit code."""
    components = json.loads(bill.read_bytes())["components"]
    # A build for one processor or accelerator (+cpu) has the advisories of its release.
    pins = sorted(f"{part['name']}=={part['version'].partition('+')[0]}" for part in components)
    print(f"{bill}: {len(pins)} packages", flush=True)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        return subprocess.run([*command, "--requirement", file.name], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
