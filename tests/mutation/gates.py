"""Changes the gates' code in every way that mutmut knows, and names each change that no test notices.

    python -m tests.mutation.gates [NAME ...]

NAME: mutants to run, such as `softprompt.evaluation.gates.parts*`; without one, all: 1,467 of them took 15 minutes on two cores
that others used too.
Exit code 1: a change went unnoticed that is not listed below as one that changes nothing.
"""

import shutil
import subprocess
import sys

_EDGE = "a part on the threshold itself has no number of rows, and without one neither rule gives any"
_AS_LONG = "each judged part has one status, so both are as long"
_CANNOT_FAIL = "the words of an assertion that cannot fail"
EQUIVALENT: dict[str, str] = {
    "wrong = [found for found in undecided if (found.estimate <= threshold if floor else found.estimate > threshold)]": _EDGE,
    "wrong = [found for found in undecided if (found.estimate < threshold if floor else found.estimate >= threshold)]": _EDGE,
    "reach = interval.estimate - interval.low if interval.estimate >= threshold else interval.high - interval.estimate": (
        "equality has returned above"
    ),
    'undecided = [found for (found, _), each in zip(judged, statuses, strict=None) if each == "undecided"]': _AS_LONG,
    'undecided = [found for (found, _), each in zip(judged, statuses, ) if each == "undecided"]': _AS_LONG,
    'undecided = [found for (found, _), each in zip(judged, statuses, strict=False) if each == "undecided"]': _AS_LONG,
    'assert limit is not None, "XXa gate has one ruleXX"': _CANNOT_FAIL,
    'assert limit is not None, "A GATE HAS ONE RULE"': _CANNOT_FAIL,
}
"""Line as changed -> why it does the same."""


def main(names: list[str]) -> int:
    """Run, and compare what survived with the list."""
    shutil.rmtree("mutants", ignore_errors=True)  # which tests run which function is known of the old code only
    subprocess.run([sys.executable, "-m", "mutmut", "run", "--max-children", "2", *names], check=True)
    unnoticed = [(name, line) for name in survivors() for line in changed_lines(name) if line not in EQUIVALENT]
    for name, line in unnoticed:
        print(f"no test notices {name}:\n    {line}")
    return 1 if unnoticed else 0


def survivors() -> list[str]:
    """Names of mutants that passed all tests, or that no test runs."""
    told = subprocess.run([sys.executable, "-m", "mutmut", "results"], check=True, capture_output=True, text=True).stdout
    states = dict(line.strip().split(": ", 1) for line in told.splitlines() if ": " in line)
    return [name for name, state in states.items() if state in ("survived", "no tests", "suspicious")]


def changed_lines(name: str) -> list[str]:
    """The lines of a mutant that the code does not have."""
    shown = subprocess.run([sys.executable, "-m", "mutmut", "show", name], check=True, capture_output=True, text=True).stdout
    return [line[1:].strip() for line in shown.splitlines() if line.startswith("+") and not line.startswith("+++")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
