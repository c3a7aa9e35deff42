/* Running sums or products along the axis of (rows, n, inner): a work-item has one line, and goes
   along it from the front, or from the end (REVERSE). EXCLUSIVE: without the element itself. */
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(cumulate)(const __global T *restrict x, const int n, const int inner,
                             const int lines, const int chunk, __global T *restrict y) {
  const int begin = (int)get_global_id(0) * chunk;
  const int end = min(begin + chunk, lines);
  for (int line = begin; line < end; line++) {
    const int row = line / inner;
    const int start = row * n * inner + line - row * inner;
    ACC total = START;
    for (int k = 0; k < n; k++) {
      const int at = start + (REVERSE ? n - 1 - k : k) * inner;
      const ACC v = rk1_load(T, x, at);
      const ACC next = JOIN(total, v);
      rk1_store(T, y, at, (EXCLUSIVE ? total : next));
      total = next;
    }
  }
}
