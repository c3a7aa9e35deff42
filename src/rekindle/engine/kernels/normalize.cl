/* (x - mean) / sqrt(variance + epsilon) * scale + bias of rows; RMS: without mean and bias.

   A row stays in the cache between its three passes: mean, sum of squared differences, result.
   On GPUs a wave of COOP work-items shares a row. Sums are taken in runs of RUN vectors: one long
   float32 sum would lose digits.

   Scale and bias of element i of row r have index r % period * step + i / inner.

   T, LANES    type in memory; elements of a vector, computed in float
   COOP        work-items of a row, GROUP of a work-group
   RMS         1: no mean
   AFFINE      0: no scale; 1: scale; 2: scale and bias
   SEGMENTS    0: inner is 1; 1: runs of `inner` elements share a scale
   TS          type of scale and bias in memory */
#define RUN 64
#if LANES == 1
#define V float
#define READ(p, i) rk1_load(T, p, i)
#define WRITE(p, i, v) rk1_store(T, p, i, v)
#else
#if LANES == 8
#define V float8
#else
#define V float16
#endif
#define READ(p, i) rk_load_any(LANES, T, (p) + (i))
#define WRITE(p, i, v) rk_store_any(LANES, T, v, (p) + (i))
#endif

static inline float NAME(across)(V v)
{
#if LANES == 1
  return v;
#else
  union { V v; float s[LANES]; } u;
  u.v = v;
  for (int n = LANES / 2; n > 0; n /= 2)
    for (int l = 0; l < n; l++) u.s[l] += u.s[l + n];
  return u.s[0];
#endif
}

/* The sum over a row of TERM(value); `e` is one element or a vector. */
#define SUM(result, TERM) {                                                                       \
    float total = 0.0f;                                                                           \
    for (int i0 = item * LANES; i0 < whole; i0 += RUN * COOP * LANES) {                           \
      V s = (V)(0.0f);                                                                            \
      for (int i = i0; i < min(i0 + RUN * COOP * LANES, whole); i += COOP * LANES) {              \
        const V e = READ(p, i);                                                                   \
        s += TERM;                                                                                \
      }                                                                                           \
      total += NAME(across)(s);                                                                   \
    }                                                                                             \
    for (int i = whole + item; i < length; i += COOP) {                                           \
      const float e = rk1_load(T, p, i);                                                          \
      total += TERM;                                                                              \
    }                                                                                             \
    SHARE(total)                                                                                  \
    result = total;                                                                               \
  }
#if COOP > 1
#define SHARE(total) {                                                                            \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                 \
    shared[item] = total;                                                                         \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                 \
    for (int n = COOP / 2; n > 0; n /= 2) {                                                       \
      if (item < n) shared[item] += shared[item + n];                                             \
      barrier(CLK_LOCAL_MEM_FENCE);                                                               \
    }                                                                                             \
    total = shared[0];                                                                            \
  }
#else
#define SHARE(total)
#endif
#if AFFINE == 0
#define APPLY(v, a) (v)
#elif AFFINE == 1
#define APPLY(v, a) ((v) * SCALE(a))
#else
#define APPLY(v, a) ((v) * SCALE(a) + BIAS(a))
#endif

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(standardize)(
    const __global T *restrict x,
#if AFFINE
    const __global TS *restrict scale,
#endif
#if AFFINE == 2
    const __global TS *restrict bias,
#endif
    const int rows, const int length, const int per_item, const int period, const int step,
    const int inner, const float epsilon, __global T *restrict y)
{
#if COOP > 1
  __local float shared[COOP];
  const int item = get_local_id(0), first = get_group_id(0), last = first + 1;
#else
  const int item = 0, first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows);
#endif
  const int whole = length / LANES * LANES;
  for (int row = first; row < last; row++) {
    const __global T *p = x + row * length;
    __global T *q = y + row * length;
    float mean = 0.0f, squares;
#if !RMS
    SUM(mean, e)
    mean /= length;
#endif
    SUM(squares, ((e - mean) * (e - mean)))
    const float factor = 1.0f / rk1_sqrt(squares / length + epsilon);
    const int base = row % period * step;
#if SEGMENTS
#define SCALE(a) rk1_load(TS, scale, base + (a))
#define BIAS(a) rk1_load(TS, bias, base + (a))
    for (int a = 0; a * inner < length; a++) {
      const int end = min((a + 1) * inner, length);
      const int vectors = a * inner + (end - a * inner) / LANES * LANES;
      for (int i = a * inner + item * LANES; i < vectors; i += COOP * LANES)
        WRITE(q, i, APPLY((READ(p, i) - mean) * factor, a));
      for (int i = vectors + item; i < end; i += COOP)
        rk1_store(T, q, i, APPLY((rk1_load(T, p, i) - mean) * factor, a));
    }
#undef SCALE
#undef BIAS
#else
#if LANES > 1
#define SCALE(a) rk_load_any(LANES, TS, scale + base + (a))
#define BIAS(a) rk_load_any(LANES, TS, bias + base + (a))
#else
#define SCALE(a) rk1_load(TS, scale, base + (a))
#define BIAS(a) rk1_load(TS, bias, base + (a))
#endif
    for (int i = item * LANES; i < whole; i += COOP * LANES)
      WRITE(q, i, APPLY((READ(p, i) - mean) * factor, i));
#undef SCALE
#undef BIAS
#define SCALE(a) rk1_load(TS, scale, base + (a))
#define BIAS(a) rk1_load(TS, bias, base + (a))
    for (int i = whole + item; i < length; i += COOP)
      rk1_store(T, q, i, APPLY((rk1_load(T, p, i) - mean) * factor, i));
#undef SCALE
#undef BIAS
#endif
  }
}
#undef RUN
#undef V
#undef READ
#undef WRITE
#undef SUM
#undef SHARE
#undef APPLY
