"""Frame to chart, a room per kind: each gives a `Drawn`, themed SVG with the words under it."""
