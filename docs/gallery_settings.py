"""What sphinx-gallery calls for the examples: their order, their arguments, and how a plot in a file is found."""

from pathlib import Path

from sphinx_gallery.scrapers import figure_rst

_ORDER = [
    "train_digits.py",
    "train_in_place.py",
    "faster_torch_models.py",
    "onnx_face_models.py",
    "larger_than_memory.py",
    "jax_network.py",
]


def order(name):
    """A key to sort the examples by; a new one comes last."""
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def arguments(gallery_conf, script_vars):
    """The command line: a short training is enough for a picture."""
    return ["--epochs", "8", "--seeds", "2"]


def scraper(block, block_vars, gallery_conf):
    """Move the plot that the example wrote beside itself, under its own name, if it did."""
    written, moved = Path(block_vars["src_file"]).with_suffix(".png"), []
    if written.exists():
        moved.append(str(written.rename(next(block_vars["image_path_iterator"]))))
    return figure_rst(moved, gallery_conf["src_dir"])
