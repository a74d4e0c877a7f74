"""Is what convbench reads true? `python scripts/fidelity` holds its figures beside those of independent tools."""
