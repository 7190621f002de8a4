#!/usr/bin/env bash
# A program frozen by PyInstaller computes, by every backend that is there: the package's hook names what PyInstaller
# cannot see.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > program.py <<'PROGRAM'
import numpy as np
import fastact

x = np.linspace(-1, 1, 100_000, dtype=np.float32)
for backend in fastact.available_backends():
    assert (fastact.relu(x, backend=backend) == np.maximum(x, 0)).all()
print("frozen:", fastact.get_backend(), *fastact.available_backends())
PROGRAM
pyinstaller --log-level ERROR program.py
./dist/program/program
