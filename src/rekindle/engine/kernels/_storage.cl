/* How elements lie in memory, and how they become the floats that every kernel computes with. T is
   the name of a storage type, N a number of lanes: 4, 8 or 16.

   rk1_load(T, p, i)       one element                rk1_store(T, p, i, v)
   rk_load(N, T, p)        a vector of floats         rk_store(N, T, v, p)
   rk_load_any(N, T, p)    the same at any address    rk_store_any(N, T, v, p)

   rk_load and rk_store want addresses that are a multiple of the vector's size in memory.

   Half precision: vload_half and vstore_half need no extension, but on a CPU they are calls that
   do not vectorise (PoCL 3.0: a quarter of the speed), so where the compiler has the processor's own
   conversions it is given vectors of __fp16, which OpenCL C's compilers keep from C. No vector of
   16 goes to a builtin by value: PoCL's wheel would abort. */
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpsabi" /* all is inlined: no vector meets a calling convention */
#endif
#define RK_INLINE static inline __attribute__((always_inline))
#ifdef __has_builtin
#if __has_builtin(__builtin_convertvector)
#define RK_CONVERT(v, T) __builtin_convertvector(v, T)
#endif
#endif
#ifndef RK_CONVERT
#define RK_CONVERT(v, T) convert_##T(v)
#endif

typedef ushort rk1_bfloat16;
RK_INLINE float rk1_from_bfloat16(ushort x) { return as_float((uint)x << 16); }
/* Rounds half to even; NaN stays NaN. */
RK_INLINE ushort rk1_to_bfloat16(float x) {
  uint bits = as_uint(x);
  return x != x ? (ushort)0x7fc0 : (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
RK_INLINE float rk1_round_bfloat16(float x) { return rk1_from_bfloat16(rk1_to_bfloat16(x)); }
RK_INLINE float rk1_round_float16(float x) {
  ushort bits;
  vstore_half(x, 0, (half *)&bits);
  return vload_half(0, (const half *)&bits);
}

#define rk1_load_float(p, i) ((p)[i])
#define rk1_load_double(p, i) ((p)[i])
#define rk1_load_char(p, i) ((p)[i])
#define rk1_load_uchar(p, i) ((p)[i])
#define rk1_load_short(p, i) ((p)[i])
#define rk1_load_ushort(p, i) ((p)[i])
#define rk1_load_int(p, i) ((p)[i])
#define rk1_load_uint(p, i) ((p)[i])
#define rk1_load_long(p, i) ((p)[i])
#define rk1_load_ulong(p, i) ((p)[i])
#define rk1_load_rk1_bfloat16(p, i) rk1_from_bfloat16((p)[i])
#define rk1_store_float(p, i, v) ((p)[i] = (v))
#define rk1_store_double(p, i, v) ((p)[i] = (v))
#define rk1_store_char(p, i, v) ((p)[i] = (v))
#define rk1_store_uchar(p, i, v) ((p)[i] = (v))
#define rk1_store_short(p, i, v) ((p)[i] = (v))
#define rk1_store_ushort(p, i, v) ((p)[i] = (v))
#define rk1_store_int(p, i, v) ((p)[i] = (v))
#define rk1_store_uint(p, i, v) ((p)[i] = (v))
#define rk1_store_long(p, i, v) ((p)[i] = (v))
#define rk1_store_ulong(p, i, v) ((p)[i] = (v))
#define rk1_store_rk1_bfloat16(p, i, v) ((p)[i] = rk1_to_bfloat16(v))
#define rk1_load(T, p, i) rk_paste(rk1_load_, T)(p, i)
#define rk1_store(T, p, i, v) rk_paste(rk1_store_, T)(p, i, v)
#define rk_paste(a, b) rk_paste_(a, b)
#define rk_paste_(a, b) a##b

#define rk_load(N, T, p) rk_join(rk_load, N, T)(p)
#define rk_load_any(N, T, p) rk_join(rk_load_any, N, T)(p)
#define rk_store(N, T, v, p) rk_join(rk_store, N, T)(v, p)
#define rk_store_any(N, T, v, p) rk_join(rk_store_any, N, T)(v, p)
#define rk_join(a, N, T) rk_join_(a, N, T)
#define rk_join_(a, N, T) a##N##_##T

#define RK_STORAGE(N)                                                                              \
  typedef float##N __attribute__((aligned(4))) rk_any_float##N;                                    \
  typedef ushort##N __attribute__((aligned(2))) rk_any_ushort##N;                                  \
  typedef char##N __attribute__((aligned(1))) rk_any_char##N;                                      \
  RK_INLINE float##N rk_load##N##_float(const __global float *p) {                                 \
    return *(const __global float##N *)p;                                                          \
  }                                                                                                \
  RK_INLINE float##N rk_load_any##N##_float(const __global float *p) {                             \
    return *(const __global rk_any_float##N *)p;                                                   \
  }                                                                                                \
  RK_INLINE void rk_store##N##_float(float##N v, __global float *p) {                              \
    *(__global float##N *)p = v;                                                                   \
  }                                                                                                \
  RK_INLINE void rk_store_any##N##_float(float##N v, __global float *p) {                          \
    *(__global rk_any_float##N *)p = v;                                                            \
  }                                                                                                \
  RK_INLINE float##N rk_widened##N(ushort##N bits) {                                               \
    return as_float##N(RK_CONVERT(bits, uint##N) << 16);                                           \
  }                                                                                                \
  RK_INLINE ushort##N rk_narrowed##N(float##N v) {                                                 \
    const uint##N bits = as_uint##N(v);                                                            \
    const uint##N rounded = (bits + (uint##N)0x7fff + ((bits >> 16) & (uint##N)1)) >> 16;          \
    return RK_CONVERT(v != v ? (uint##N)0x7fc0 : rounded, ushort##N);                              \
  }                                                                                                \
  RK_INLINE float##N rk_load##N##_rk1_bfloat16(const __global rk1_bfloat16 *p) {                   \
    return rk_widened##N(*(const __global ushort##N *)p);                                          \
  }                                                                                                \
  RK_INLINE float##N rk_load_any##N##_rk1_bfloat16(const __global rk1_bfloat16 *p) {               \
    return rk_widened##N(*(const __global rk_any_ushort##N *)p);                                   \
  }                                                                                                \
  RK_INLINE void rk_store##N##_rk1_bfloat16(float##N v, __global rk1_bfloat16 *p) {                \
    *(__global ushort##N *)p = rk_narrowed##N(v);                                                  \
  }                                                                                                \
  RK_INLINE void rk_store_any##N##_rk1_bfloat16(float##N v, __global rk1_bfloat16 *p) {            \
    *(__global rk_any_ushort##N *)p = rk_narrowed##N(v);                                           \
  }                                                                                                \
  RK_INLINE float##N rk_load##N##_char(const __global char *p) {                                   \
    return RK_CONVERT(*(const __global char##N *)p, float##N);                                     \
  }                                                                                                \
  RK_INLINE float##N rk_load_any##N##_char(const __global char *p) {                               \
    return RK_CONVERT(*(const __global rk_any_char##N *)p, float##N);                              \
  }
RK_STORAGE(4)
RK_STORAGE(8)
RK_STORAGE(16)
#undef RK_STORAGE

#ifdef __F16C__
/* A lone element is a vector of one: OpenCL C refuses to read a scalar __fp16. */
typedef __fp16 __attribute__((ext_vector_type(1))) rk_half1;
typedef float __attribute__((ext_vector_type(1))) rk_float1;
#define rk1_load_half(p, i) rk1_from_half(((const __global rk_half1 *)(p)) + (i))
#define rk1_store_half(p, i, v) rk1_to_half(v, ((__global rk_half1 *)(p)) + (i))
RK_INLINE float rk1_from_half(const __global rk_half1 *p) {
  return __builtin_convertvector(*p, rk_float1).x;
}
RK_INLINE void rk1_to_half(float v, __global rk_half1 *p) {
  *p = __builtin_convertvector((rk_float1)(v), rk_half1);
}
#define RK_HALF(N)                                                                                 \
  typedef __fp16 __attribute__((ext_vector_type(N))) rk_half##N;                                   \
  typedef rk_half##N __attribute__((aligned(2))) rk_any_half##N;                                   \
  RK_INLINE float##N rk_load##N##_half(const __global half *p) {                                   \
    return __builtin_convertvector(*(const __global rk_half##N *)p, float##N);                     \
  }                                                                                                \
  RK_INLINE float##N rk_load_any##N##_half(const __global half *p) {                               \
    return __builtin_convertvector(*(const __global rk_any_half##N *)p, float##N);                 \
  }
RK_HALF(4)
RK_HALF(8)
RK_HALF(16)
#undef RK_HALF
/* Stores go through the instruction itself: a selection in front of a conversion LLVM would move
   behind it, and select halves one by one. */
typedef short4 __attribute__((aligned(2))) rk_any_short4;
typedef short8 __attribute__((aligned(2))) rk_any_short8;
RK_INLINE void rk_store_any4_half(float4 v, __global half *p) {
  const short8 bits = __builtin_ia32_vcvtps2ph(v, 0);
  *(__global rk_any_short4 *)p = bits.lo;
}
RK_INLINE void rk_store_any8_half(float8 v, __global half *p) {
  *(__global rk_any_short8 *)p = __builtin_ia32_vcvtps2ph256(v, 0);
}
RK_INLINE void rk_store_any16_half(float16 v, __global half *p) {
  rk_store_any8_half(v.lo, p);
  rk_store_any8_half(v.hi, p + 8);
}
#define rk_store4_half rk_store_any4_half
#define rk_store8_half rk_store_any8_half
#define rk_store16_half rk_store_any16_half
#else
#define rk1_load_half(p, i) vload_half(i, p)
#define rk1_store_half(p, i, v) vstore_half(v, i, p)
#define RK_HALF(N)                                                                                 \
  RK_INLINE float##N rk_load##N##_half(const __global half *p) { return vloada_half##N(0, p); }    \
  RK_INLINE float##N rk_load_any##N##_half(const __global half *p) { return vload_half##N(0, p); } \
  RK_INLINE void rk_store##N##_half(float##N v, __global half *p) { vstorea_half##N(v, 0, p); }    \
  RK_INLINE void rk_store_any##N##_half(float##N v, __global half *p) { vstore_half##N(v, 0, p); }
RK_HALF(4)
RK_HALF(8)
#undef RK_HALF
RK_INLINE float16 rk_load16_half(const __global half *p) {
  return (float16)(vloada_half8(0, p), vloada_half8(1, p));
}
RK_INLINE float16 rk_load_any16_half(const __global half *p) {
  return (float16)(vload_half8(0, p), vload_half8(1, p));
}
RK_INLINE void rk_store16_half(float16 v, __global half *p) {
  vstorea_half8(v.lo, 0, p);
  vstorea_half8(v.hi, 1, p);
}
RK_INLINE void rk_store_any16_half(float16 v, __global half *p) {
  vstore_half8(v.lo, 0, p);
  vstore_half8(v.hi, 1, p);
}
#endif

/* Sixteen numbers of four bits in eight bytes, each 8 more than it means: byte j holds number j in
   its low half and number j + 8 in its high half. rk_nibbles gives the r-th vector of N after p. */
typedef uchar rk1_int4;
typedef uchar8 __attribute__((aligned(1))) rk_any_uchar8;
RK_INLINE float8 rk_low_nibbles(const __global rk1_int4 *p) {
  return RK_CONVERT(*(const __global rk_any_uchar8 *)p & (uchar8)15, float8) - 8.0f;
}
RK_INLINE float8 rk_high_nibbles(const __global rk1_int4 *p) {
  return RK_CONVERT(*(const __global rk_any_uchar8 *)p >> (uchar8)4, float8) - 8.0f;
}
RK_INLINE float8 rk_nibbles8(const __global rk1_int4 *p, int r) {
  return r % 2 ? rk_high_nibbles(p + r / 2 * 8) : rk_low_nibbles(p + r / 2 * 8);
}
RK_INLINE float16 rk_nibbles16(const __global rk1_int4 *p, int r) {
  return (float16)(rk_low_nibbles(p + r * 8), rk_high_nibbles(p + r * 8));
}
#define rk_nibbles(N, p, r) rk_paste(rk_nibbles, N)(p, r)

/* The same for one work-item at a time: rows 2 i and 2 i + 1 of n columns share bytes, low and high. */
#define rk1_nibble(p, n, row, column)                                                              \
  ((float)(((p)[(row) / 2 * (n) + (column)] >> ((row) % 2 * 4)) & 15) - 8.0f)
