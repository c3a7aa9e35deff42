/* y[o, k, i] = x[o, index[k], i]. A negative index counts from the end; an index outside the axis
   cannot raise here and takes the nearest element.

   ALONG 0: a row is one slice, a step one element of it. ALONG 1, for slices of one element: a row
   is one `o`, a step one index. */
static inline int NAME(place)(INDEX given, int axis) {
  const INDEX from_start = given < 0 ? given + axis : given;
  return (int)clamp(from_start, (INDEX)0, (INDEX)(axis - 1));
}

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(gather)(const __global T *restrict x, const __global INDEX *restrict index,
                           const int axis, const int count, const int rows, const int inner,
                           const int chunk, const int per_item, __global T *restrict y) {
  const int chunks = (inner + chunk - 1) / chunk;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, inner);
    __global T *q = y + row * inner;
#if ALONG
    const __global T *p = x + row * axis;
    for (int i = begin; i < end; i++) q[i] = p[NAME(place)(index[i], axis)];
#else
    const int outer = row / count;
    const __global T *p = x + (outer * axis + NAME(place)(index[row - outer * count], axis)) * inner;
    for (int i = begin; i < end; i++) q[i] = p[i];
#endif
  }
}
