/* e^(x - max) / sum of them, or its logarithm, along the axis of (rows, axis, inner). F(f) names the
   function f of vectors of LANES.

   FORM 0: inner is 1. A vector holds neighbours on the axis, and COOP work-items share a row.
   FORM 1: a vector holds neighbours of `inner`, each with an axis of its own.
   The maximum lets NaN through, and an infinite one makes NaN of x - max: as NumPy. */
#if LANES == 1
#define V float
#define READ(p, i) rk1_load(T, p, i)
#define WRITE(p, i, v) rk1_store(T, p, i, v)
#else
#if LANES == 4
#define V float4
#else
#define V float16
#endif
#define READ(p, i) rk_load_any(LANES, T, (p) + (i))
#define WRITE(p, i, v) rk_store_any(LANES, T, v, (p) + (i))
#endif
#if LOG
#define RESULT(x) ((x) - peak - logarithm)
#else
#define RESULT(x) (F(exp)((x) - peak) * scale)
#endif

#if FORM == 0
static inline float NAME(sum_across)(V v) {
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

static inline float NAME(max_across)(V v) {
#if LANES == 1
  return v;
#else
  union { V v; float s[LANES]; } u;
  u.v = v;
  for (int n = LANES / 2; n > 0; n /= 2)
    for (int l = 0; l < n; l++) u.s[l] = rk1_max(u.s[l], u.s[l + n]);
  return u.s[0];
#endif
}

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(softmax)(const __global T *restrict x, const int rows, const int axis,
                            const int per_item, __global T *restrict y) {
#if COOP > 1
  __local float shared[COOP];
  const int item = get_local_id(0), first = get_group_id(0), last = first + 1;
#else
  const int item = 0, first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows);
#endif
  const int whole = axis / LANES * LANES;
  for (int row = first; row < last; row++) {
    const __global T *p = x + row * axis;
    __global T *q = y + row * axis;
#if LANES > 1
    /* What is left after whole vectors, made up with values that count for nothing. */
    union { V v; float s[LANES]; } rest;
    rest.v = (V)(-INFINITY);
    for (int i = whole; i < axis; i++) rest.s[i - whole] = rk1_load(T, p, i);
    V m = rest.v;
#else
    V m = -INFINITY;
#endif
    for (int i = item * LANES; i < whole; i += COOP * LANES) m = F(max)(m, READ(p, i));
    float peak = NAME(max_across)(m);
#if COOP > 1
    shared[item] = peak;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = COOP / 2; n > 0; n /= 2) {
      if (item < n) shared[item] = rk1_max(shared[item], shared[item + n]);
      barrier(CLK_LOCAL_MEM_FENCE);
    }
    peak = shared[0];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
#if LANES > 1
    V s = F(exp)(rest.v - peak);
#if LOG
    rest.v -= peak;
#else
    rest.v = s;
#endif
#else
    V s = 0.0f;
#endif
    for (int i = item * LANES; i < whole; i += COOP * LANES) {
      const V e = F(exp)(READ(p, i) - peak);
#if KEEP
      WRITE(q, i, e);
#endif
      s += e;
    }
    float total = NAME(sum_across)(s);
#if COOP > 1
    shared[item] = total;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (int n = COOP / 2; n > 0; n /= 2) {
      if (item < n) shared[item] += shared[item + n];
      barrier(CLK_LOCAL_MEM_FENCE);
    }
    total = shared[0];
    barrier(CLK_LOCAL_MEM_FENCE);
#endif
#if LOG
    const float logarithm = rk1_log(total);
#else
    const float scale = 1.0f / total;
#endif
    for (int i = item * LANES; i < whole; i += COOP * LANES)
#if KEEP
      WRITE(q, i, READ(q, i) * scale);
#else
      WRITE(q, i, RESULT(READ(p, i)));
#endif
#if LANES > 1
#if LOG
    for (int i = whole; i < axis; i++) rk1_store(T, q, i, rest.s[i - whole] - logarithm);
#else
    for (int i = whole; i < axis; i++) rk1_store(T, q, i, rest.s[i - whole] * scale);
#endif
#endif
  }
}
#else
/* Overlapping last steps may be computed by two work-items at once: nothing written is read. */
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(softmax)(const __global T *restrict x, const int rows, const int axis,
                            const int inner, const int steps, const int chunk, const int per_item,
                            __global T *restrict y) {
  const int chunks = (steps + chunk - 1) / chunk;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, steps);
    for (int step = begin; step < end; step++) {
      const int offset = row * axis * inner + min(step * LANES, inner - LANES);
      const __global T *p = x + offset;
      __global T *q = y + offset;
      V peak = (V)(-INFINITY);
      for (int a = 0; a < axis; a++) peak = F(max)(peak, READ(p, a * inner));
      V total = (V)(0.0f);
      for (int a = 0; a < axis; a++) total += F(exp)(READ(p, a * inner) - peak);
#if LOG
      const V logarithm = F(log)(total);
#else
      const V scale = 1.0f / total;
#endif
      for (int a = 0; a < axis; a++)
        WRITE(q, a * inner, RESULT(READ(p, a * inner)));
    }
  }
}
#endif
#undef V
#undef READ
#undef WRITE
#undef RESULT
