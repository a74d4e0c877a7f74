"""One cell to one record: the clock, the checks, the witnesses, the engine."""
