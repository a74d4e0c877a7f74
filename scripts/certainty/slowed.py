"""convbench whose `torch@b` is PyTorch slowed by known factors: see tests/slowed.py, which its workers import."""

from functools import partial

from harness.cli import main
from harness.isolate import launcher

if __name__ == "__main__":
    launcher.Launcher = partial(launcher.Launcher, targets={"torch@b": "tests.slowed:SlowedTorch"})  # type: ignore[misc]
    main()
