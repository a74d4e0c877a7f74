"""What is made by `convbench capture` and kept: the suites of whole models, and the table of models in docs/capture.md."""
