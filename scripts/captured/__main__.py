"""Captures anew what is kept of captures: the suites of whole models, and the table of models in docs/capture.md.

    .venv/bin/python scripts/captured suites              writes suites/NAME.toml and suites/shapes/NAME.csv of each
    .venv/bin/python scripts/captured suites --check      exit code 1 where one is not what would be written
    .venv/bin/python scripts/captured models --env FOLDER writes the table: 4 minutes of a core, longer on a busy machine

FOLDER has an environment with torchvision, fvcore and what they need, which is made where it is not there. It sees the packages
of this one, PyTorch among them.
"""

import argparse
import subprocess
import sys
import venv
from pathlib import Path

if not __package__:  # run by the name of its folder, whose rooms have names that others may have
    sys.path[0] = str(Path(__file__).resolve().parents[2])
from harness.execution import capturing
from scripts.captured import models, suites

# torchvision 0.28 is of PyTorch 2.13; it is installed without its dependencies, which the environment around it has.
PACKAGES = ("torchvision>=0.28,<0.29", "fvcore", "iopath", "portalocker", "pyyaml", "tabulate", "termcolor", "tqdm", "yacs")


def environment(folder: Path) -> str:
    """The Python of an environment in that folder, which has those packages and sees all of this one's."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, symlinks=True)
        packages = next((folder / "lib").glob("python*/site-packages"))
        seen = [path for path in sys.path if path.endswith("site-packages")]
        (packages / "others.pth").write_text("\n".join(seen) + "\n")
        words = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", *PACKAGES]
        subprocess.run(words, check=True)
    return str(python)


def write_suites(check: bool) -> int:
    """Write the suites that are not as they would be; how many these are."""
    stale = 0
    for shipped in suites.SHIPPED:
        seen = capturing.in_process(suites.located(shipped.request))
        for name, text in suites.files(shipped, seen).items():
            path = suites.FOLDER / name
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            stale += 1
            if check:
                print(f"{path} is stale; run scripts/captured suites", file=sys.stderr)
            else:
                path.write_text(text, encoding="utf-8")
                print(f"wrote {path}")
    return stale


def write_models(python: str) -> None:
    """Write the table of models. The models of torchvision are captured under that Python, all are counted in this process."""
    sys.path += map(str, Path(python).parents[1].glob("lib/python*/site-packages"))
    body = []
    for model in models.models():
        added = models.rows(model, python if model.needs_torchvision else None)
        print("\n".join(added), flush=True)
        body += added
    models.PAGE.write_text(models.page(models.PAGE.read_text(encoding="utf-8"), body), encoding="utf-8")


def main() -> int:
    """The exit code: 1 where --check finds a stale file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["suites", "models"])
    parser.add_argument("--check", action="store_true", help="of suites: write nothing, exit 1 where one is stale")
    parser.add_argument("--env", type=Path, help="of models: the folder of the environment")
    options = parser.parse_args()
    if options.what == "suites":
        return int(write_suites(options.check) > 0 and options.check)
    if options.env is None:
        parser.error("models needs --env FOLDER")
    write_models(environment(options.env))
    return 0


if __name__ == "__main__":
    sys.exit(main())
