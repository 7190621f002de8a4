"""`python -m fastact` prints what a bug report needs."""

from . import show_config

if __name__ == "__main__":
    show_config()
