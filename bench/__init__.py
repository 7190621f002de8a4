"""The benchmarks: every operation on every workload by every contestant, alone, in company and in whole networks.

"In company" means between the operations of another library.  Beside that there are figures with targets, which the
package must hold.

Rooms: `workloads` and `models` (what is timed, as data), `layouts` (how arrays lie in memory), `contestants` (who is
timed; `textbook` has the loops that people write first), `timing` (taking turns), `groups` (everybody who does the same
work, checked and timed in turns).  Which groups there are: `comparison`, `company`, `networks`, and for the package's
required figures `figures`, `off_plain`, `processes`; `selection` chooses.  `bench_groups` is the test, `options` and
`conftest` are pytest's part, `others` measures what other processes took of the machine.  What is shown comes from one
table, `results`, whether of a run that has just ended or of a file: `tables`, `plots`, `report` (the terminal), `show`
(Markdown, the page), `compare`.

A run writes a file; `python -m bench` shows and compares files.  `fastact._tables.OPERATIONS` drives it: a new
operation is checked and timed without a line here.  `scale` measures what a job over several machines costs.
"""
