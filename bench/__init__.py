"""The benchmarks: every operation x workload x contestant, with fresh results and with out=.

Rooms: `workloads` (what is timed, as data), `contestants` (who is timed), `timing` (how long a case may take,
and this machine's memory limit), `bench_operations` (the one test, which also checks the result), `report`
(progress and tables) and `conftest` (options and the choice of cases).  `fastact._operations.OPERATIONS`
drives it: a new operation is checked and timed without a line here.
"""
