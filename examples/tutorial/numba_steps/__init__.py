"""The steps of docs/tutorial.md in Numba; run.py runs them."""
