"""What is installed: the wheel has what the tree has, an sdist makes the same wheel, and it works where no repository is."""

import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Where the folders of the repository stand in the wheel.
CARRIED = {"harness": "harness", "suites": "harness/suites", "results/published": "harness/published", "docs": "harness/docs"}
LEFT_OUT = {".gitignore"}  # of an sdist: what says something to git alone
TIMEOUT_S = 120


def run(*words: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a folder that knows nothing of this repository."""
    # The real home has the list of fonts that matplotlib makes; with a lock beside the folder no other run is in the way.
    lock = str(cwd.parent / "convbench.lock")
    places = {"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "TMPDIR": str(cwd.parent), "CONVBENCH_LOCK": lock}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd, env=places, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def built(kind: str, tree: Path, out: Path) -> Path:
    """The wheel or the sdist of a tree, by the hook that pip calls."""
    hook = f"from setuptools import build_meta; build_meta.build_{kind}({str(out)!r})"
    out.mkdir()
    said = run(sys.executable, "-c", hook, cwd=tree)
    assert said.returncode == 0, said.stdout + said.stderr
    (made,) = out.iterdir()
    return made


def files(wheel: Path) -> dict[str, bytes]:
    """What the package of a wheel holds."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name.startswith("harness/")}


def listed() -> list[str]:
    """The files of the repository, those that are not committed yet included."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    said = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if said.returncode:
        pytest.skip("not a git repository")
    return [name for name in said.stdout.split("\0") if name and (ROOT / name).is_file()]


def copied(folder: Path) -> Path:
    """A copy of the repository's files: a build writes into the tree that it builds."""
    for name in listed():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    return listed()


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copied(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    return built("wheel", tree, tree / "wheel")


@pytest.mark.fault("a folder or a file is added to the package", "the wheel carries it")
def test_the_wheel_holds_every_file_of_the_folders_that_it_carries(wheel: Path, tracked: list[str]) -> None:
    wanted = {
        f"{inside}{name.removeprefix(folder)}": (ROOT / name).read_bytes()
        for name in tracked
        for folder, inside in CARRIED.items()
        if name.startswith(f"{folder}/")
    }
    assert {"harness/page/charts/__init__.py", "harness/suites/README.md", "harness/docs/method.md"} <= set(wanted)
    found = files(wheel)
    assert sorted(found) == sorted(wanted)
    assert found == wanted


@pytest.mark.fault("the wheel is made from an sdist", "it is the same")
def test_an_sdist_holds_every_tracked_file_and_makes_the_same_wheel(
    wheel: Path, tree: Path, tracked: list[str], tmp_path: Path
) -> None:
    sdist = built("sdist", tree, tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert [name for name in tracked if not (unpacked / name).is_file() and name not in LEFT_OUT] == []
    assert files(built("wheel", unpacked, tmp_path / "wheel")) == files(wheel)


@pytest.mark.fault("convbench is installed, and used outside the repository", "it measures and reports")
def test_an_installed_wheel_measures_and_reports_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    place, folder = tmp_path / "venv", tmp_path / "empty"
    folder.mkdir()
    venv.create(place, symlinks=True)
    python, convbench = place / "bin" / "python", place / "bin" / "convbench"
    said = run(
        sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=tmp_path
    )
    assert said.returncode == 0, said.stderr
    # It sees the other packages of this environment, and convbench where it stands itself: the path of an editable install is
    # one that only the environment's own site-packages follow.
    packages = next((place / "lib").glob("python*/site-packages"))
    (packages / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")) + "\n")
    where = run(python, "-c", "import harness; print(harness.__file__)", cwd=folder)
    assert Path(where.stdout.strip()) == packages / "harness" / "__init__.py"

    measured = run(
        convbench, "run", "smoke", "--quick", "--backend", "numpy", "-k", "fprop", "--no-ceilings", "--no-report", cwd=folder
    )
    assert measured.returncode == 0, measured.stdout + measured.stderr
    reported = run(convbench, "report", "latest", cwd=folder)
    assert reported.returncode == 0, reported.stdout + reported.stderr
    run_id = measured.stdout.splitlines()[-1]
    assert "</html>" in (folder / "reports" / run_id / "report.html").read_text()
    assert sorted(path.name for path in folder.iterdir()) == ["reports", "results"]
