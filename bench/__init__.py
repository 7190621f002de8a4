"""The benchmarks: every operation x workload x contestant, with fresh results and with out=.

Rooms: `workloads` and `models` (what is timed, as data), `layouts` (how arrays lie in memory), `contestants` (who is
timed; `textbook` has the loops that people write first), `cases` (which of them a run has), `timing` (taking turns),
`heats` (everybody who does the same work, checked and timed in turns), `bench_operations` (the test), `rows` (the
figures of one contestant in one heat), `views` (tables of them), `report` (progress, the terminal), `others` (who else
was at work), `plots` and `page` (--report), `compare` (saved runs), `options` and `conftest`.
`fastact._tables.OPERATIONS` drives it: a new operation is checked and timed without a line here.

The package's required figures are ratios: `races` says who takes turns with whom on what (`layout_lines` and `company`
have a row each), `figures` measures all of them (`python -m bench.figures`), `bench_fresh`, `bench_masks`,
`bench_small`, `bench_threads`, `bench_streaming` and `bench_company` a few in every run, and `curves` draws them over
the size (`python -m bench.curves`).  `scale` measures what a job over several machines costs (`python -m bench.scale`).
"""
