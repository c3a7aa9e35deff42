/* Where along the axis of (rows, axis, inner) the extreme lies, WIDE neighbours of `inner` at a time.

   A scan as ONNX Runtime does it: it starts with the first element and moves on where
   BETTER(v, best), so that a NaN in front stays and one further on is passed over. COOP work-items
   share one output and join through local memory; SOONER(i, j) decides between equals. */
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(arg_reduce)(const __global T *restrict x, const int axis, const int inner,
                               const int rows, const int steps, const int chunk,
                               const int per_item, __global long *restrict y) {
  const int chunks = (steps + chunk - 1) / chunk;
#if COOP > 1
  __local ACC values[COOP];
  __local int places[COOP];
  const int item = get_local_id(0), first = get_group_id(0), last = first + 1;
#else
  const int item = 0, first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
#endif
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, steps);
    for (int step = begin; step < end; step++) {
      const int at = min(step * WIDE, inner - WIDE);
      const __global T *p = x + row * axis * inner + at;
      ACC best[WIDE];
      int place[WIDE];
      for (int k = 0; k < WIDE; k++) {
        best[k] = rk1_load(T, p, k);
        place[k] = 0;
      }
      for (int a = item; a < axis; a += COOP)
        for (int k = 0; k < WIDE; k++) {
          const ACC v = rk1_load(T, p, a * inner + k);
          place[k] = BETTER(v, best[k]) ? a : place[k];
          best[k] = BETTER(v, best[k]) ? v : best[k];
        }
#if COOP > 1
      values[item] = best[0];
      places[item] = place[0];
      barrier(CLK_LOCAL_MEM_FENCE);
      for (int half_items = COOP / 2; half_items > 0; half_items /= 2) {
        if (item < half_items) {
          const ACC v = values[item + half_items], b = values[item];
          const int i = places[item + half_items], j = places[item];
          if (STRICTLY_BETTER(v, b) || (v == b && SOONER(i, j))) {
            values[item] = v;
            places[item] = i;
          }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
      }
      if (item) continue;
      place[0] = places[0];
#endif
      for (int k = 0; k < WIDE; k++) y[row * inner + at + k] = place[k];
    }
  }
}
