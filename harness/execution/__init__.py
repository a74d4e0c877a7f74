"""A suite measured on this host: what is there, who may measure, the run from its plan to its seal, and its interruption."""
