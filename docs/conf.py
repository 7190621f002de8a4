"""Sphinx settings of the site.  Build it with ``sphinx-build -W -b html docs build/site``; no network is needed."""

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import fastact

sys.path.insert(0, str(Path(__file__).parent))  # for gallery_settings

project = "fastact"
author = "The fastact authors"
copyright = author
version = release = fastact.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "matplotlib.sphinxext.plot_directive",
    "sphinx_gallery.gen_gallery",
]
autosummary_generate = ["api/index.md"]
default_role = "py:obj"  # single backticks in docstrings
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2, "navbar_align": "left"}
html_sidebars = {"index": []}

myst_heading_anchors = 4  # GitHub's names of headings, which the links between the pages use
autodoc_typehints = "none"  # the docstrings say what the arguments are
autodoc_member_order = "groupwise"
numpydoc_show_class_members = False
plot_formats = ["svg"]
plot_html_show_formats = False
plot_html_show_source_link = False

# Only what needs nothing but the extra [docs], and some seconds, runs while the site is built.
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"train_digits\.py",
    "reset_argv": "gallery_settings.arguments",
    "image_scrapers": "gallery_settings.scraper",
    "within_subsection_order": "gallery_settings.order",
    "show_signature": False,
    "min_reported_time": 1e9,
    "download_all_examples": False,
    "write_computation_times": False,
}

# Pages that import a library of somebody else's.
HOSTS = {f"api/{name}": name for name in ("torch", "onnx", "jax")}


def _fit_to_the_site(app, docname, source):
    """Leave out the docstrings of a host that is not installed, and turn links that are right in the repository.

    CONTRIBUTING.md is a page of the site; a folder of the examples is none.
    """
    host = HOSTS.get(docname)
    if host and find_spec(host) is None:
        before = source[0].partition("```{eval-rst}")[0]
        source[0] = (
            f"{before}The docstrings are read from `fastact.{host}`, which needs {host}, and this site was built "
            f"without it. Where {host} is installed, `help(fastact.{host})` shows them.\n"
        )
    source[0] = source[0].replace("](../CONTRIBUTING.md", "](contributing.md")
    source[0] = re.sub(r"\[([^]]+)\]\(\.\./examples/[^)]+\)", r"\1", source[0])


def _take_no_readme_for_a_gallery(app):
    """A folder with a README.md, such as examples/cython_user, would become a gallery of its own."""
    app.config.sphinx_gallery_conf["source_suffix"] = {".rst": "restructuredtext"}


def setup(app):
    """Let Sphinx call what is above."""
    app.connect("builder-inited", _take_no_readme_for_a_gallery, priority=1)
    app.connect("source-read", _fit_to_the_site)
