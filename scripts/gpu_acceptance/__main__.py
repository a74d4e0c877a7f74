"""`python scripts/gpu_acceptance`: see `command`. Without NumPy nothing of convbench can be asked, and that is said."""

import importlib.util
import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[2])
sys.path[0] = ROOT  # not this folder, whose rooms have names that others may have

if __name__ == "__main__":
    if importlib.util.find_spec("numpy") is None:
        print("gpu_acceptance: numpy is not installed, and nothing is measured without it", file=sys.stderr)
        sys.exit(5)
    os.environ["PYTHONPATH"] = os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])  # for all processes
    from scripts.gpu_acceptance.command import main

    sys.exit(main())
