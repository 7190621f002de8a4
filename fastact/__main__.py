"""`python -m fastact` prints what a bug report needs."""

from . import show_config

show_config()
