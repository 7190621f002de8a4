"""Where PyInstaller finds this package's hook (the entry point is in pyproject.toml)."""

from pathlib import Path


def hook_folders() -> list[str]:
    """Return the folders that hold hooks."""
    return [str(Path(__file__).parent)]
