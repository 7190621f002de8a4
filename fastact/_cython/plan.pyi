from .._plan import memory_order as memory_order, set_sizes as set_sizes
