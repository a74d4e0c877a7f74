"""Frame to frame: figures, flags and comparisons derived from stored facts."""
