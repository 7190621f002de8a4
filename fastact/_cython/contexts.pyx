# The code that every `with` block of a setting runs, compiled.  _contexts.py has the same in Python.
#
# cython: auto_pickle=False
#
# A block is often put around one small call, which takes 0.1 us.  The block adds 0.4 us; with the shortest classes in
# Python it added 0.6 us.

from cpython.contextvars cimport PyContextVar_Reset, PyContextVar_Set

from fastact._cython cimport policy

cdef enum:
    MOST_SETTLED = 256
cdef dict settled = {}      # from values that were checked once and stay valid to the variable that each is for


cdef inline bint is_plain(object value) noexcept:
    """Whether the value may be a key of `settled`: only an int or str itself, because 1.0 and True are equal to 1."""
    return type(value) is int or type(value) is str


cdef class Setting:
    """A variable's value for one `with` block, checked when the object is made."""

    cdef readonly object _value
    cdef object variable, token     # `token` is None before the block, False after it
    cdef bint is_settled

    cdef int take(self, object value) except -1:
        self.variable = self._variable
        self.is_settled = is_plain(value) and settled.get(value) is self.variable
        self._value = value if self.is_settled else self._check(value)
        return 0

    def _require(self):
        """Raise an error if what the value needs is missing; True if it cannot go missing later."""
        return True

    def __enter__(self):
        if self.token is not None:
            raise RuntimeError(f"this {self!r} was entered before: make a new one for each `with` block")
        if not self.is_settled and self._require() and is_plain(self._value) and len(settled) < MOST_SETTLED:
            settled[self._value] = self.variable
        policy.contexts = True
        self.token = PyContextVar_Set(self.variable, self._value)

    def __exit__(self, kind, error, traceback):
        token = self.token
        if token is None or token is False:
            raise RuntimeError(f"this {self!r} was not entered, or was left before")
        self.token = False
        try:
            PyContextVar_Reset(self.variable, token)
        except ValueError:
            pass    # the block was left in another context: _contexts.py explains that


cdef class Number(Setting):
    """Number(n)\n--\n\nA setting that is a number."""     # the first line is the signature, which inspect finds here

    def __init__(self, n):
        self.take(n)


cdef class Name(Setting):
    """Name(name)\n--\n\nA setting that is a name."""

    def __init__(self, name):
        self.take(name)
