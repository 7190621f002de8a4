"""The steps of docs/tutorial.md in Cython; run.py builds and runs them."""
