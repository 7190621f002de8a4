# The words of _kernels.py for Cython: declarations of simd.h's.  setup.py adds those that it makes from the annotations
# of the text.

from libc.stdint cimport uint8_t

cdef extern from "simd.h" nogil:
    ctypedef double T           # float or double: the computing type
    ctypedef double S           # the storage type
    ctypedef struct vec:
        pass
    ctypedef struct wide:
        pass
    const char* FA_LEVEL
    Py_ssize_t ZERO
    enum: NO_DX, STORED, STREAMED
    enum: ORDINARY, STREAMING
    enum: ROWS, ALONG

    S* at "fa_at"(const S*, Py_ssize_t)
    T* at_slopes "fa_at"(const T*, Py_ssize_t)
    double* at_sums "fa_at"(double*, Py_ssize_t)
    bint wanted "fa_wanted"(const void*)
    Py_ssize_t lanes "fa_lanes"(const S*)
    Py_ssize_t line "fa_line"(const S*)
    Py_ssize_t item_size "fa_item_size"(const S*)
    Py_ssize_t unaligned "fa_unaligned"(const S*, Py_ssize_t)
    void fetch "fa_fetch"(const S*, Py_ssize_t)
    void fetch_slopes "fa_fetch"(const T*, Py_ssize_t)
    Py_ssize_t fetch_distance "fa_fetch_distance"(const S*, bint)
    void fence "fa_fence"()

    vec load "fa_load"(const S*, Py_ssize_t)
    vec load_part "fa_load_part"(const S*, Py_ssize_t, Py_ssize_t)
    vec load_slope "fa_load_slope"(const T*, Py_ssize_t)
    vec load_slopes "fa_load_slopes"(const T*, Py_ssize_t)
    vec load_slopes_part "fa_load_slopes_part"(const T*, Py_ssize_t, Py_ssize_t)
    vec full "fa_full"(const S*, double)
    vec full_like "fa_full"(vec, double)
    void store "fa_store"(S*, Py_ssize_t, vec)
    void store_part "fa_store_part"(S*, Py_ssize_t, vec, Py_ssize_t)
    void stream "fa_stream"(S*, Py_ssize_t, vec)
    void stream_part "fa_stream_part"(S*, Py_ssize_t, vec, Py_ssize_t)
    vec mul "fa_mul"(vec, vec)
    vec add "fa_add"(vec, vec)
    vec where_gt "fa_where_gt"(vec, vec, vec, vec)
    vec where_le "fa_where_le"(vec, vec, vec, vec)
    vec join "fa_join"(vec, vec, Py_ssize_t)
    Py_ssize_t bits_gt "fa_bits_gt"(vec, vec)
    Py_ssize_t bits_le "fa_bits_le"(vec, vec)
    vec where_bits "fa_where_bits"(Py_ssize_t, vec, vec)
    Py_ssize_t get_bits "fa_get_bits"(const uint8_t*, Py_ssize_t, Py_ssize_t)
    void put_bits "fa_put_bits"(uint8_t*, Py_ssize_t, Py_ssize_t, Py_ssize_t)
    bint exact_in_double "fa_exact_in_double"(vec)

    double* scratch "fa_scratch"()
    double sum_at "fa_get"(const double*, Py_ssize_t)
    void put_sum "fa_put"(double*, Py_ssize_t, double)
    wide zeros "fa_zeros"()
    wide load_wide "fa_load_wide"(const double*, Py_ssize_t)
    void store_wide "fa_store_wide"(double*, Py_ssize_t, wide)
    int registers "fa_registers"()
    wide add_products_unless_gt "fa_add_products"(wide, const S*, const S*, Py_ssize_t, double)
    wide add_products_part_unless_gt "fa_add_products_part"(wide, const S*, const S*, Py_ssize_t, double, Py_ssize_t,
                                                            Py_ssize_t)
    void split_products "fa_split_products"(wide*, wide*, const S*, const S*, Py_ssize_t, double, Py_ssize_t)
    double sum_lanes "fa_sum_lanes"(wide)


cdef inline (wide, wide) split_products_unless_gt(wide total, wide following, const S* u, const S* v, Py_ssize_t i,
                                                  double bound, Py_ssize_t n) noexcept nogil:
    split_products(&total, &following, u, v, i, bound, n)
    return total, following
