"""Look up known vulnerabilities of what an image holds: `audit.py SBOM`, a CycloneDX file that `make sbom` wrote.

pip-audit asks PyPI for advisories, and takes a package that PyPI does not answer for as one without: it says so and ends with 0.
Here not having been told is a failure of its own.

Exit codes: 0 nothing is known against any package; 1 something is, or pip-audit failed; 2 some could not be asked for.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path


def main(bill: Path) -> int:
    """Print what is known; the exit code."""
    components = json.loads(bill.read_bytes())["components"]
    # A build for one processor or accelerator (+cpu) has the advisories of its release.
    pins = sorted(f"{part['name']}=={part['version'].partition('+')[0]}" for part in components)
    with tempfile.TemporaryDirectory() as folder:
        requirements, report = Path(folder) / "requirements.txt", Path(folder) / "report.json"
        requirements.write_text("\n".join(pins))
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps", "--progress-spinner", "off"]
        command += ["--requirement", str(requirements), "--format", "json", "--output", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not report.exists():
            print(f"{bill}: pip-audit failed\n{done.stderr.strip()}")
            return 1
        return tell(bill, json.loads(report.read_bytes())["dependencies"])


def tell(bill: Path, packages: list[dict[str, object]]) -> int:
    """Print a report of pip-audit."""
    silent = [package for package in packages if "skip_reason" in package]
    told = [package for package in packages if package.get("vulns")]
    print(f"{bill}: {len(packages)} packages; {len(told)} with advisories, {len(silent)} that could not be asked for")
    for package in told:
        for found in package["vulns"]:  # type: ignore[attr-defined]
            mended = ", ".join(found["fix_versions"]) or "no release"
            print(f"  {package['name']} {package['version']}: {found['id']}, mended in {mended}")
    if silent:
        print(f"  not audited, such as: {silent[0]['skip_reason']}")
    return 1 if told else 2 if silent else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
