"""The engine before visits, in an environment of its own beside the frameworks of this one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OLD = "a03384f"  # the last commit of method version 11


def old_engine(folder: Path) -> tuple[Path, Path]:
    """The interpreter in which the old engine is installed, and its suite `first`; made below this folder where they are not.

    The frameworks are those of this environment: a .pth names its folders, behind the old engine's own.
    """
    tree, environment = folder / "tree", folder / "environment"
    python, done = environment / "bin" / "python", folder / "installed"
    if not done.exists():
        tree.mkdir(parents=True, exist_ok=True)
        archive = subprocess.run(["git", "-C", str(ROOT), "archive", OLD], capture_output=True, check=True)
        subprocess.run(["tar", "-x", "-C", str(tree)], input=archive.stdout, check=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(environment)], check=True)
        (packages,) = environment.glob("lib/python*/site-packages")
        shared = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (packages / "shared.pth").write_text("\n".join(shared) + "\n")
        install = ["--python", str(python), "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-e", str(tree)]
        subprocess.run(
            [sys.executable, "-m", "pip", *install], check=True, env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        )
        where = [str(python), "-P", "-c", "import harness, harness.record as r; print(harness.__file__, r.METHOD_VERSION)"]
        told = subprocess.run(where, capture_output=True, text=True, check=True, cwd=folder).stdout
        if not told.startswith(str(tree)):
            raise SystemExit(f"the old engine was not installed: what is imported is {told}")
        done.write_text(told)
    return python, tree / "suites" / "first.toml"
