"""Writes a report's page from made-up times: `python tests/scripts/page.py FOLDER`, in the checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.cases import Selection, choose
from bench.heats import Heat
from bench.page import write_report
from bench.rows import Row
from bench.views import views
from bench.workloads import SIZES

cases = [c for c in choose(Selection(workloads=SIZES, contestants=("numpy",))) if c.operation == "relu"]
rows = [Row(case, Heat({"numpy": [(i + 1) * 1e-6] * 5}, 64)) for i, case in enumerate(cases)]
write_report(Path(sys.argv[1]), rows, list(views(rows, "numpy")), [], "numpy")
