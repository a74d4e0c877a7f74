"""Stands for a framework: it notes what it finds when it is imported, as OpenMP and its like do."""

import os
import sys

SEEN = {
    "affinity": str(len(os.sched_getaffinity(0))),
    "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", ""),
    "MKL_NUM_THREADS": os.environ.get("MKL_NUM_THREADS", ""),
    "own": os.environ.get("SCRIPTED_FRAMEWORK", ""),
    "NUMPY_MADVISE_HUGEPAGE": os.environ.get("NUMPY_MADVISE_HUGEPAGE", ""),
    "numpy": str("numpy" in sys.modules),
}
