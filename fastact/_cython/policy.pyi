from .._policy import (
    MOST_THREADS as MOST_THREADS,
    ask_contexts as ask_contexts,
    bound_on_threads as bound_on_threads,
    bounds as bounds,
    changed as changed,
    set_bounds as set_bounds,
    set_thresholds as set_thresholds,
    streams as streams,
    threads_that_pay as threads_that_pay,
    thresholds as thresholds,
    wakes as wakes,
)
