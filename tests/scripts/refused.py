"""Several runs of pytest in one process, which only collect: `python tests/scripts/refused.py OUT COMMAND ...`.

A command is its words with tabs between them.  Writes each run's status and what it said to OUT, as JSON.
"""

import contextlib
import io
import json
import sys
from pathlib import Path

import pytest

runs = []
for command in sys.argv[2:]:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        status = pytest.main([*command.split("\t"), "--collect-only", "-q", "-p", "no:cacheprovider"])
    runs.append((int(status), said.getvalue()))
Path(sys.argv[1]).write_text(json.dumps(runs))
