/* Between row-major (N, C, S) and blocked (N, ceil(C / BLOCK), S, BLOCK), where C is no multiple
   of BLOCK: channels past C are written as zero and never read. A row is one (n, block) pair; its
   positions go in runs that stay in the first-level cache while every channel visits them. */
#define RUN 64
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(reorder)(const __global T *restrict x, const int channels, const int rows,
                            const int spatial, const int chunk, const int per_item,
                            __global T *restrict y) {
  const int blocks = (channels + BLOCK - 1) / BLOCK;
  const int chunks = (spatial + chunk - 1) / chunk;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, spatial);
    const int n = row / blocks;
    const int channel = (row - n * blocks) * BLOCK;
    const int there = min(BLOCK, channels - channel);
    const int plane = (n * channels + channel) * spatial;
#if PACK
    __global T *q = y + row * spatial * BLOCK;
#else
    const __global T *q = x + row * spatial * BLOCK;
#endif
    for (int start = begin; start < end; start += RUN) {
      const int stop = min(start + RUN, end);
#if PACK
      if (there < BLOCK)
        for (int i = start * BLOCK; i < stop * BLOCK; i++) q[i] = 0;
      for (int l = 0; l < there; l++)
        for (int i = start; i < stop; i++) q[i * BLOCK + l] = x[plane + l * spatial + i];
#else
      for (int l = 0; l < there; l++)
        for (int i = start; i < stop; i++) y[plane + l * spatial + i] = q[i * BLOCK + l];
#endif
    }
  }
}
#undef RUN
