"""How sure is a run? `python scripts/certainty` makes what docs/fidelity.md tells of it, as far as it is not there."""
