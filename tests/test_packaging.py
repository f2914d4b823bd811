"""The wheel that users install, and what the repository must not hold."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ezbatch
from tests.containers import ON_CI

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ezbatch", "ezbatch_jupyter")
# Patterns, so that this file itself names no host.
REGISTRY_HOST = re.compile(r"https?://[\w.-]*(pypi|pythonhosted|npmjs|debian)[\w.-]*\.(org|com|net)")
USER_DIRECTORY = re.compile(r"(?<![\w.$}])/(home|Users)/(?!jovyan|user\b)\w+/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def tracked_files() -> list[Path]:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git clone")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def test_wheel_holds_both_packages_whole(wheel: zipfile.ZipFile) -> None:
    here = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    there = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert there == here
    assert {f"{package}/{name}" for package in PACKAGES for name in ("__init__.py", "py.typed")} <= there
    assert any(name.endswith(".sh") for name in there)


def test_wheel_describes_itself(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "\nProvides-Extra: jupyter\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    assert "ezbatch = ezbatch.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_core_needs_no_notebook(wheel: zipfile.ZipFile) -> None:
    (metadata,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    needed = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra ==).*$", wheel.read(metadata).decode(), re.MULTILINE)
    assert set(needed) == {"boto3", "dataclasses-json", "graphviz", "platformdirs", "rich", "tomli"}


@pytest.mark.skipif(not ON_CI, reason="the source tree is installed; CI=true make test installs the wheel")
def test_ci_tests_the_installed_wheel() -> None:
    assert ROOT not in Path(ezbatch.__file__).resolve().parents or "site-packages" in ezbatch.__file__


def test_tracked_files_name_no_machine_and_no_registry() -> None:
    here = [re.escape(str(place)) + r"(?![\w-])" for place in {ROOT, Path.home(), Path(sys.base_prefix)}]
    # A home or prefix such as /root or /usr is also a place inside every container.
    private = re.compile("|".join(place for place in here if place.count("/") > 1))
    found = []
    for path in tracked_files():
        content = path.read_bytes()
        if b"\0" in content:
            continue
        text = content.decode(errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            if private.search(line) or USER_DIRECTORY.search(line) or REGISTRY_HOST.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert found == []


@pytest.mark.parametrize("name", ["uv", "demo", "dev"])
def test_requirements_are_pinned_by_version_and_hash(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=\w)", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE).strip())
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry
    assert "://" not in text


def test_requirements_cover_the_declared_dependencies() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*declared["project"]["dependencies"], *declared["project"]["optional-dependencies"]["jupyter"]]
    for group in declared["dependency-groups"].values():
        wanted += [entry for entry in group if isinstance(entry, str)]
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "dev.txt").read_text(), re.MULTILINE))
    names = {match[0].lower() for entry in wanted if (match := re.match(r"[\w.-]+", entry))}
    assert names <= pinned


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md"])
def test_make_targets_named_in_the_documents_exist(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / document).read_text()
    named = re.findall(r"(?:^    |`)(?:CI=true )?make ((?:[a-z]+ ?)+)", text, re.MULTILINE)
    assert {target for targets_of in named for target in targets_of.split()} <= targets
