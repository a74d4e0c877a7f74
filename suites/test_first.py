"""Every cell of the suite `first` as a test of pytest-benchmark: pytest suites/test_first.py --benchmark-json=out.json"""

from harness.pytest_plugin import Cells

test_first = Cells("first")
