"""Does convbench measure right on this GPU? `python scripts/gpu_acceptance` makes ten checks in at most eight minutes."""
