"""Write constraints.txt: the exact versions of everything that a development install of this project brings.

Run it with the Python that the lock is for. It installs into a temporary virtual environment, torch first and exactly, and
freezes what came.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH = "torch==2.13.0"
ELSEWHERE = {"serve-vllm"}
"""Extras that bring another torch and so are installed into an environment of their own."""
HEADER = f"""\
# Exact versions for every install: `make`, CI and the images. Written by `make lock`; torch is named first and exactly.
{TORCH}
"""


def main() -> None:
    """Install, freeze, write."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = ",".join(extra for extra in known if extra not in ELSEWHERE)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        python = f"{folder}/bin/python"
        for wish in (TORCH, f"{ROOT}[{extras}]"):
            subprocess.run([python, "-m", "pip", "install", "--quiet", wish], check=True)
        frozen = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    pinned = [
        line for line in frozen.splitlines() if re.match(r"[\w.-]+==", line) and not re.match(r"(torch|softprompt)\b", line)
    ]
    (ROOT / "constraints.txt").write_text(HEADER + "".join(f"{line}\n" for line in sorted(pinned, key=str.lower)))


if __name__ == "__main__":
    main()
