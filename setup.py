"""The packages of the wheel, which pyproject.toml could only list: every folder of these trees, with every file in it.

Suites, published timings and documentation stand at the top of the repository, where people read and copy them; the wheel
carries them inside the package.
"""

from pathlib import Path

from setuptools import setup

TREES = {"harness": "harness", "harness.suites": "suites", "harness.published": "results/published", "harness.docs": "docs"}

folders = {
    ".".join((name, *folder.relative_to(tree).parts)): folder.as_posix()
    for name, tree in TREES.items()
    for folder in (Path(tree), *sorted(Path(tree).rglob("*")))
    if folder.is_dir() and folder.name != "__pycache__" and not folder.name.startswith(".")
}
setup(packages=[*folders], package_dir=folders, package_data={"": ["*"]})
