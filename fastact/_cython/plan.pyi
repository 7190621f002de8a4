from .._plan import memory_order as memory_order
from .._plan import set_sizes as set_sizes
