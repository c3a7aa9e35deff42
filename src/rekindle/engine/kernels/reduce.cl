/* Reductions. FORM 0: the innermost loop of x is reduced, and an output element is one row.
   FORM 1: the innermost loop is kept, and a step is WIDE vectors of output elements.

   STEP(a, v) takes an element into an accumulator, JOIN(a, b) two accumulators into one; STEP_1 and
   JOIN_1 are the same for one lane. RUN elements follow one another in one accumulator, RUN of those
   are joined in a second, and these in a third: rounding errors stay small over a million terms.
   COOP work-items share one step and join through local memory (GPUs). get_global_id(1) counts the
   parts a long reduction is cut into; each writes outputs of its own, which a second launch joins.

   FINISH(a): the stored value. RAGGED 1: channels past C become zero; 2: they are not stored, and
   the output is row-major. */
#define RUN 64
#define UNIT (LANES * COOP)
#if LANES == 1
#define V ACC
#define READ(p, i) ((ACC)rk1_load(T, p, i))
#else
#if LANES == 4
#define V float4
#else
#define V float16
#endif
#define READ(p, i) rk_load_any(LANES, T, (p) + (i))
#endif

static inline ACC NAME(across)(V v) {
#if LANES == 1
  return v;
#else
  union { V v; ACC s[LANES]; } u;
  u.v = v;
  for (int half_lanes = LANES / 2; half_lanes > 0; half_lanes /= 2)
    for (int l = 0; l < half_lanes; l++) u.s[l] = JOIN_1(u.s[l], u.s[l + half_lanes]);
  return u.s[0];
#endif
}

#if COOP > 1
/* All work-items join what they have; every one of them gets the result. */
static inline V NAME(join_all)(V v, __local V *shared) {
  const int item = get_local_id(0);
  shared[item] = v;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int half_items = COOP / 2; half_items > 0; half_items /= 2) {
    if (item < half_items) shared[item] = JOIN(shared[item], shared[item + half_items]);
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  return shared[0];
}
#endif

#if FORM == 0
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(reduce)(const __global T *restrict x, PARAMS const int r_begin_step,
                           const int r_each, const int r_count, const int i_begin_step,
                           const int i_each, const int i_count, const int divisor, const int rows,
                           const int per_item, __global OUT *restrict y) {
  const int part = get_global_id(1);
  const int r_begin = part * r_begin_step, r_end = min(r_begin + r_each, r_count);
  const int i_begin = part * i_begin_step, i_end = min(i_begin + i_each, i_count);
#if COOP > 1
  __local V shared[COOP];
  const int item = get_local_id(0), first = get_group_id(0), last = first + 1;
#else
  const int item = 0, first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows);
#endif
  for (int row = first; row < last; row++) {
    KEPT
    V total = INIT;
    ACC rest = INIT_1;
    for (int r = r_begin; r < r_end; r++) {
      REDUCED
      const __global T *p = x + o + q;
      const int whole = i_begin + max(i_end - i_begin, 0) / LANES * LANES;
      for (int group = i_begin + item; group < whole; group += RUN * RUN * UNIT) {
        const int group_end = min(group + RUN * RUN * UNIT, whole);
        V b = INIT;
        for (int start = group; start < group_end; start += RUN * UNIT) {
          const int stop = min(start + RUN * UNIT, group_end);
          V a = INIT;
          for (int i = start; i < stop; i += UNIT) a = STEP(a, READ(p, i));
          b = JOIN(b, a);
        }
        total = JOIN(total, b);
      }
#if LANES > 1
      for (int i = whole; i < i_end; i++) rest = STEP_1(rest, rk1_load(T, p, i));
#endif
    }
#if COOP > 1
    total = NAME(join_all)(total, shared);
    if (item) continue;
#endif
    const ACC a = JOIN_1(NAME(across)(total), rest);
    rk1_store(OUT, y, part * rows + row, FINISH(a));
  }
}
#else
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(reduce)(const __global T *restrict x, PARAMS const int r_begin_step,
                           const int r_each, const int r_count, const int divisor, const int kept,
                           const int channels, const int rows, const int inner, const int chunk,
                           const int per_item, __global OUT *restrict y) {
  const int part = get_global_id(1);
  const int r_begin = part * r_begin_step, r_end = min(r_begin + r_each, r_count);
  const int chunks = (inner + chunk - 1) / chunk;
#if COOP > 1
  __local V shared[COOP];
  const int item = get_local_id(0), first = get_group_id(0), last = first + 1;
#else
  const int item = 0, first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
#endif
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, inner);
    KEPT
    for (int step = begin; step < end; step++) {
      /* The last step is shifted back to end where the row ends. */
      const int at = min(step * WIDE * LANES, kept - WIDE * LANES);
      const __global T *p = x + o + at;
      V total[WIDE];
      for (int k = 0; k < WIDE; k++) total[k] = INIT;
      for (int group = r_begin + item; group < r_end; group += RUN * RUN * COOP) {
        const int group_end = min(group + RUN * RUN * COOP, r_end);
        V b[WIDE];
        for (int k = 0; k < WIDE; k++) b[k] = INIT;
        for (int start = group; start < group_end; start += RUN * COOP) {
          const int stop = min(start + RUN * COOP, group_end);
          V a[WIDE];
          for (int k = 0; k < WIDE; k++) a[k] = INIT;
          for (int r = start; r < stop; r += COOP) {
            REDUCED
            for (int k = 0; k < WIDE; k++) a[k] = STEP(a[k], READ(p + q, k * LANES));
          }
          for (int k = 0; k < WIDE; k++) b[k] = JOIN(b[k], a[k]);
        }
        for (int k = 0; k < WIDE; k++) total[k] = JOIN(total[k], b[k]);
      }
#if COOP > 1
      total[0] = NAME(join_all)(total[0], shared);
      if (item) continue;
#endif
      for (int k = 0; k < WIDE; k++) {
        union { V v; ACC s[LANES]; } u;
        u.v = total[k];
        for (int l = 0; l < LANES; l++) {
          const int lane = at + k * LANES + l;
          const ACC a = u.s[l];
#if RAGGED == 0
          rk1_store(OUT, y, (part * rows + row) * kept + lane, FINISH(a));
#else
          const int blocks = (channels + kept - 1) / kept;
          const int n = row / blocks, channel = (row - n * blocks) * kept + lane;
#if RAGGED == 1
          rk1_store(OUT, y, row * kept + lane, channel < channels ? FINISH(a) : 0);
#else
          if (channel < channels) rk1_store(OUT, y, n * channels + channel, FINISH(a));
#endif
#endif
        }
      }
    }
  }
}
#endif
#undef RUN
#undef UNIT
#undef V
#undef READ
