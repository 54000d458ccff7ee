"""What images are built from: locked packages, and stages written alike so that layers are equal; and an honest audit."""

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra import audit

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "infra" / "images"
ROLES = ("steps", "serving", "release")


def containerfile(role: str) -> str:
    return (IMAGES / f"{role}.Containerfile").read_text()


def stage(role: str, name: str) -> str:
    """The instructions of a stage."""
    return re.search(rf"^FROM \S+ AS {name}$(.*?)(?=^FROM |\Z)", containerfile(role), re.MULTILINE | re.DOTALL)[1]


def last_stage(role: str) -> str:
    return containerfile(role).rpartition("FROM scratch")[2]


@pytest.mark.parametrize("file", sorted(IMAGES.glob("*.txt")), ids=lambda file: file.name)
def test_every_package_is_locked(file):
    locked = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    wishes = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    assert {canonicalize_name(Requirement(wish).name) for wish in wishes} <= locked
    assert wishes == sorted(wishes)


def test_what_images_share_is_written_alike():
    assert len({stage(role, "root") for role in ROLES}) == 1
    packages = [stage(role, "packages") for role in ROLES]
    first = "RUN ./add-layer every-role --requirement every-role.txt\n"
    assert len({text[: text.index(first)] for text in packages}) == 1
    torch = re.compile(r"ARG TORCH=cpu.*?\"\$TORCH\"\n", re.DOTALL)
    assert len({torch.search(text)[0] for text in packages if "TORCH" in text}) == 1


@pytest.mark.parametrize("role", ROLES)
def test_an_image_runs_as_a_number_and_says_what_it_is(role):
    last = last_stage(role)
    assert re.findall("^USER (.*)$", last, re.MULTILINE) == ["10001:10001"]
    for label in ("title", "version", "revision", "created", "licenses", "source"):
        assert f"org.opencontainers.image.{label}=" in last
    assert "pip" not in last
    assert ("torch" in last) == (role != "release")


@pytest.mark.parametrize(
    ("package", "code"),
    [
        ({"name": "a", "version": "1", "vulns": []}, 0),
        ({"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}, 1),
        ({"name": "a", "skip_reason": "not found"}, 2),
    ],
)
def test_an_audit_that_nobody_answered_is_no_clean_one(package, code, capsys):
    assert audit.tell(Path("sbom.json"), [{"name": "b", "version": "1", "vulns": []}, package]) == code
    said = capsys.readouterr().out
    assert ("PYSEC-1, mended in 2" in said) == (code == 1)
    assert ("not audited" in said) == (code == 2)
