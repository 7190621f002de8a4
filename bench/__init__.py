"""The benchmarks: every operation x workload x contestant, with fresh results and with out=.

Rooms: `workloads` (what is timed, as data), `contestants` (who is timed), `timing` (how long a case may take,
taking turns, and this machine's memory limit), `bench_operations` (the main test, which also checks the result),
`report` (progress and tables) and `conftest` (options and the choice of cases).  `fastact._operations.OPERATIONS`
drives it: a new operation is checked and timed without a line here.

The package's required figures are ratios: `races` says who takes turns with whom on what, `figures` measures all of
them (`python -m bench.figures`), `bench_fresh`, `bench_small`, `bench_threads` and `bench_streaming` a few in every
run, and `curves` draws them over the size (`python -m bench.curves`).
"""
