/* Updates joined to what y holds, in their own order and without atomics, so that every run gives
   the same: JOIN(a, b) is what becomes of a when b meets it. An index outside its axis is skipped.

   FORM 0, elements: a work-item has one line along the axis of the indices.
   FORM 1, slices: a work-item has the i-th element of the slices at places in [low, high), and
   looks at all updates; PLACE adds up `at` from `p[0 .. DEPTH-1]`, or makes it negative. */
#if FORM == 0
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(scatter)(const __global INDEX *restrict index,
                            const __global T *restrict updates, PARAMS const int lines,
                            const int length, const int step, const int axis, const int stride,
                            const int chunk, __global T *restrict y) {
  const int begin = (int)get_global_id(0) * chunk;
  const int end = min(begin + chunk, lines);
  for (int i = begin; i < end; i++) {
    OFFSETS
    for (int k = 0; k < length; k++) {
      const INDEX given = index[ou + k * step], at = given < 0 ? given + axis : given;
      if (at >= 0 && at < axis) {
        const int to = oy + (int)at * stride;
        rk1_store(T, y, to, JOIN(rk1_load(T, y, to), rk1_load(T, updates, ou + k * step)));
      }
    }
  }
}
#else
static inline int NAME(place)(int at, INDEX given, int axis) {
  const INDEX whole = given < 0 ? given + axis : given;
  return at < 0 || whole < 0 || whole >= axis ? -1 : at * axis + (int)whole;
}

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(scatter)(const __global INDEX *restrict index,
                            const __global T *restrict updates, PARAMS const int rows,
                            const int inner, const int places, const int parts,
                            __global T *restrict y) {
  const int item = get_global_id(0);
  if (item >= parts * inner) return;
  const int part = item / inner, i = item - part * inner;
  const int low = (int)((long)places * part / parts);
  const int high = (int)((long)places * (part + 1) / parts);
  for (int row = 0; row < rows; row++) {
    const __global INDEX *p = index + row * DEPTH;
    int at = 0;
    PLACE
    if (at >= low && at < high) {
      const int to = at * inner + i;
      rk1_store(T, y, to, JOIN(rk1_load(T, y, to), rk1_load(T, updates, row * inner + i)));
    }
  }
}
#endif
