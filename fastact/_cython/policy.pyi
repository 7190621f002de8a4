from .._policy import (
    MOST_THREADS as MOST_THREADS,
)
from .._policy import (
    ask_contexts as ask_contexts,
)
from .._policy import (
    bound_on_threads as bound_on_threads,
)
from .._policy import (
    bounds as bounds,
)
from .._policy import (
    changed as changed,
)
from .._policy import (
    set_bounds as set_bounds,
)
from .._policy import (
    set_thresholds as set_thresholds,
)
from .._policy import (
    streams as streams,
)
from .._policy import (
    threads_that_pay as threads_that_pay,
)
from .._policy import (
    thresholds as thresholds,
)
from .._policy import (
    wakes as wakes,
)
