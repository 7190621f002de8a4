"""The benchmarks: every operation x workload x contestant, in company, in whole networks, and figures with targets.

Rooms: `workloads` and `models` (what is timed, as data), `layouts` (how arrays lie in memory), `contestants` (who is
timed; `textbook` has the loops that people write first), `timing` (taking turns), `groups` (everybody who does the same
work, checked and timed in turns).  Which groups there are: `comparison`, `company`, `networks`, and for the package's
required figures `figures`, `off_plain`, `processes`; `selection` chooses.  `bench_groups` is the test, `options` and
`conftest` are pytest's part, `others` counts who else was at work.  What is shown comes from one table, `results`, of a
run or of a file: `tables` and `plots` of it, `report` (the terminal), `show` (files, Markdown, the page), `compare`.

A run writes a file; `python -m bench` shows and compares files.  `fastact._tables.OPERATIONS` drives it: a new
operation is checked and timed without a line here.  `scale` measures what a job over several machines costs.
"""
