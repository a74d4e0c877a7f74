"""`python -m harness` is `convbench`."""

from harness.cli import main

main()
