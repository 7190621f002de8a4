"""The benchmarks: every operation on every workload by every contestant, alone, in company and in whole networks.

"In company" means between the operations of another library.  Beside that there are figures with targets, which the
package must meet.

`workloads` and `models` say what is timed, `layouts` how arrays lie in memory, and `contestants` who is timed
(`textbook` has the loops that people write first).  `timing` makes contestants take turns, and `groups` checks and
times all who do the same work.  `comparison`, `company` and `networks` say which groups there are; `figures`,
`off_plain` and `processes` do so for the figures with targets, and `selection` chooses.  `bench_groups` is the test,
`options` and `conftest` connect it to pytest, and `others` measures what other processes took of the machine.
`results` makes one table of a run that has just ended or of a file.  `tables`, `plots`, `report` (the terminal),
`show` (Markdown, the page) and `compare` show that table.

A run writes a file; `python -m bench` shows and compares files.  The operations come from `fastact._tables.OPERATIONS`:
a new one is checked and timed without a line here.  `scale` measures what a job over several machines costs.
"""
