/* Stops the build if a flag is in force that changes results.  Every C file of the kernels and of the driver includes
   this, some more than once.  setup.py removes the flags of this kind that it knows, wherever they come from (CFLAGS, a
   distribution's defaults). */

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__ASSOCIATIVE_MATH__) \
    || defined(__RECIPROCAL_MATH__) || defined(__NO_SIGNED_ZEROS__)
#error "fastact: a flag like -ffast-math is in force, which changes results"
#endif
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error "fastact: float is not computed in float here (x87 arithmetic, as with -mfpmath=387), which changes results"
#endif

#ifndef FA_INLINE
#if defined(__GNUC__) || defined(__clang__)
#define FA_INLINE static inline __attribute__((always_inline))
#define FA_CALLED static __attribute__((noinline, unused))
#else
#define FA_INLINE static inline
#define FA_CALLED static
#endif
#endif
