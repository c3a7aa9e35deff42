/* out = expr(inputs), element by element.

   A tile is a run of CHUNK steps along the innermost loop of one row; a step is one vector of
   LANES floats, or one element of any type. What differs from call to call is text from the spec:

   PARAMS     the inputs, strides and sizes        OFFSETS   from `row` to an offset an input
   READ       declares a0, a1, ... at step `i`     EXPR      the expression of a0, a1, ...
   MASK       zeroes the channels past C           TAIL      elements past the last whole vector */
#if LANES == 4
#define V float4
#elif LANES == 16
#define V float16
#endif

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(elementwise)(PARAMS const int rows, const int inner, const int chunk,
                                const int per_item, __global OUT *restrict out) {
  const int chunks = (inner + chunk - 1) / chunk;
  const int tiles = rows * chunks;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, tiles);
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, inner);
    OFFSETS
    for (int i = begin; i < end; i++) {
      READ
#if LANES > 1
      V v = EXPR;
      MASK
      rk_store(LANES, OUT, v, out + (row * inner + i) * LANES);
#else
      rk1_store(OUT, out, row * inner + i, EXPR);
#endif
    }
  }
  TAIL
}
#undef V
