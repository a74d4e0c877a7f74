"""Does convbench measure right on this GPU? Ten checks, in at most eight minutes.

    python scripts/gpu_acceptance                                    all checks, with every framework that sees the GPU
    python scripts/gpu_acceptance --backend torch --check 1,3        some of them
    python scripts/gpu_acceptance --python tensorflow=.venv-tensorflow/bin/python

Prints what holds and what does not, with the figures, and packs them with a page, the runs and the logs into one file. What
each check asks, and its limits, stand in scripts/gpu_acceptance/checks.py. Exit code 0 where all that was made holds, 1 where
something does not, 5 where there is no GPU to check.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.axes import Device
from harness.backends import registry
from harness.isolate import launcher
from harness.isolate.wire import Hello
from harness.measure import gpus
from scripts.gpu_acceptance import checks, page, place
from scripts.gpu_acceptance.place import Framework, Place

BROKEN_CODE, NO_GPU_CODE = 1, 5
# What a run of convbench needs beside a framework, by its module; a worker needs NumPy alone.
PARENT = ("jinja2", "matplotlib", "pandas", "pyarrow", "pydantic", "rich", "scipy", "seaborn", "typer")


def parser() -> argparse.ArgumentParser:
    """Its options."""
    parser = argparse.ArgumentParser(
        prog="gpu_acceptance", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )  # fmt: skip
    parser.add_argument("--device", type=Device.parse, default="gpu:0", help="the GPU, as convbench names it")
    parser.add_argument("--backend", type=_words, help="only these frameworks: torch,jax")
    parser.add_argument("--python", type=_pair, action="append", default=[], help="NAME=PATH: a framework's own interpreter")
    parser.add_argument("--check", type=_numbers, help="only these: 1,3")
    parser.add_argument("--to", type=Path, help="the file that all is packed into; by default gpu-acceptance-DATE.tar.gz")
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _numbers(text: str) -> set[int]:
    return set(map(int, _words(text)))


def _pair(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: NAME=PATH")
    return name, os.path.abspath(path)


def lacking() -> str:
    """Why no run of convbench can be made here, in one line; empty where it can."""
    if missing := [name for name in PARENT if importlib.util.find_spec(name) is None]:
        told = f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed"
        return f"check 10 is a run of convbench and is not made: {told} (pip install {' '.join(missing)})"
    if not registry.names():
        return "check 10 is a run of convbench and is not made: it is not installed (pip install --no-deps -e .)"
    return ""


def interpreters(given: Sequence[tuple[str, str]], names: Sequence[str]) -> dict[str, str]:
    """The paths of interpreters by framework: those given, and those that stand beside this environment (`scripts/setup`)."""
    found = dict(given)
    for name in names:
        python = Path(sys.prefix).parent / f".venv-{name}" / "bin" / "python"
        if name not in found and python.exists() and importlib.util.find_spec(name) is None:
            found[name] = str(python)
    return found


def frameworks(options: argparse.Namespace, logs: Path) -> tuple[Mapping[str, Framework], list[str]]:
    """The frameworks that see the GPU, and why the others do not."""
    asked = options.backend or [each.name for each in place.KNOWN]
    known = {each.name: each for each in place.KNOWN if each.name in asked}
    pythons = interpreters(options.python, list(known))
    seeing, others = dict[str, Framework](), [f"{name}: no check knows it" for name in asked if name not in known]
    for name, hello in launcher.probe({each.name: each.target for each in known.values()}, logs, pythons).items():
        if isinstance(hello, Hello) and options.device in hello.devices:
            seeing[name] = replace(known[name], python=pythons.get(name))
        else:
            others.append(f"{name}: {hello if isinstance(hello, str) else _built(hello)}")
    return seeing, others


def _built(hello: Hello) -> str:
    """What a framework that sees no GPU was built for."""
    if hello.build is None or not (hello.build.cuda or hello.build.other):
        return "built for the CPU"
    return f"built for {hello.build.other or f'CUDA {hello.build.cuda}'}"


def checked(options: argparse.Namespace, out: Path, driver: str) -> int:
    """Make the checks in a folder, print them and pack them; the exit code."""
    begun = time.monotonic()
    seeing, others = frameworks(options, out / "logs")
    if not seeing:
        return refused(f"no framework here sees {options.device}: {'; '.join(others)}")
    without = lacking()
    here = Place(out, options.device, seeing, checks.LIMIT_S - (time.monotonic() - begun), without)
    if here.gpu.reason:
        return refused(here.gpu.reason)
    name, day = here.gpu.facts()["name"], time.gmtime()
    heading = f"{time.strftime('%Y-%m-%d %H:%M', day)} UTC, {name}, driver {driver}, {', '.join(seeing)}"
    print("\n".join([heading, *(f"without {other}" for other in others), *filter(None, [without])]), flush=True)
    to, all_told = options.to or Path(f"gpu-acceptance-{time.strftime('%Y%m%dT%H%M%S', day)}.tar.gz"), []
    try:
        chosen = [check for check in checks.CHECKS if not options.check or check.number in options.check]
        for told in checks.all_of(here, chosen):
            all_told.append(told)
            print("\n".join(page.lines(told)), flush=True)
    finally:  # what was found is kept where it is interrupted, too
        here.close()
        page.pack(out, to.resolve(), heading, all_told)
    print(f"{page.summary(all_told)}\n{to}")
    return BROKEN_CODE if any(told.broken for told in all_told) else 0


def refused(why: str) -> int:
    """Say in one line why there is nothing to check; the exit code."""
    print(f"gpu_acceptance: {' '.join(why.split())}", file=sys.stderr)
    return NO_GPU_CODE


def main(arguments: Sequence[str] | None = None) -> int:
    """Look for a GPU, and check it; the exit code."""
    options = parser().parse_args(arguments)
    told = gpus.read()
    if isinstance(told, str):
        return refused(f"no GPU can be asked: {told}")
    with tempfile.TemporaryDirectory(prefix="gpu-acceptance-") as folder:
        return checked(options, Path(folder), told[0].driver)
