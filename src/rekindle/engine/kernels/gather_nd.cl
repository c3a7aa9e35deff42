/* Slices of x, each at DEPTH indices for its leading axes after the batch axes. PLACE adds up
   `at` from `p[0 .. DEPTH-1]`; indices outside an axis take the nearest slice. */
static inline int NAME(place)(INDEX given, int axis) {
  const INDEX whole = given < 0 ? given + axis : given;
  return (int)clamp(whole, (INDEX)0, (INDEX)(axis - 1));
}

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(gather_nd)(const __global T *restrict x, const __global INDEX *restrict index,
                              PARAMS const int picks, const int batch_step, const int rows,
                              const int inner, const int chunk, const int per_item,
                              __global T *restrict y) {
  const int chunks = (inner + chunk - 1) / chunk;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, inner);
    const __global INDEX *p = index + row * DEPTH;
    int at = 0;
    PLACE
    const __global T *from = x + row / picks * batch_step + at * inner;
    for (int i = begin; i < end; i++) y[row * inner + i] = from[i];
  }
}
