# From a model to an issue, in ten commands. docs/bug-report.md has what they print; net.py is grouped_net.py beside this file.
convbench doctor
convbench capture net.py:build --framework jax
convbench run net.toml --threads 1 -a mode=eager,compiled -k "torch/eager or tensorflow/eager or jax/compiled"
convbench show latest -k wgrad
convbench profile net.toml --threads 1 -a mode=eager,compiled -k "grouped and wgrad and (torch/eager or jax/compiled)"
convbench show latest --explain
convbench show latest --by workload --base dense -k "wgrad and jax"
convbench repro latest -k "grouped/wgrad and jax/compiled" > report.py
python report.py
convbench repro latest -k "grouped/wgrad and jax/compiled" --markdown > issue.md
