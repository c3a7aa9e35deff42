/* Where the k best of each line (rows, n, inner) lie, best first; equal ones by the lower index,
   NaN above all numbers. BETTER(v, w) says which of two different ones comes first.

   FORM 0, CPUs: a work-item has a line, and keeps the places found so far in order in y.
   FORM 1, GPUs: a work-item has an element, and counts how many of its line come before it. */
static inline int NAME(before)(ACC v, ACC w) { return BETTER(v, w); }

__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(top_k)(const __global T *restrict x, const int n, const int inner,
                          const int lines, const int k, const int chunk,
                          __global long *restrict y) {
#if FORM == 0
  const int begin = (int)get_global_id(0) * chunk;
  const int end = min(begin + chunk, lines);
  for (int line = begin; line < end; line++) {
    const int row = line / inner, column = line - row * inner;
    const __global T *p = x + row * n * inner + column;
    __global long *q = y + row * k * inner + column;
    int found = 0;
    for (int i = 0; i < n; i++) {
      const ACC v = rk1_load(T, p, i * inner);
      if (found == k && !NAME(before)(v, rk1_load(T, p, (int)q[(k - 1) * inner] * inner))) continue;
      int low = 0, high = found;
      while (low < high) {
        const int middle = (low + high) / 2;
        if (NAME(before)(v, rk1_load(T, p, (int)q[middle * inner] * inner)))
          high = middle;
        else
          low = middle + 1;
      }
      found = min(found + 1, k);
      for (int j = found - 1; j > low; j--) q[j * inner] = q[(j - 1) * inner];
      q[low * inner] = i;
    }
  }
#else
  const int item = get_global_id(0);
  if (item >= lines * n) return;
  const int column = item % inner, i = item / inner % n, row = item / inner / n;
  const __global T *p = x + row * n * inner + column;
  const ACC v = rk1_load(T, p, i * inner);
  int rank = 0;
  for (int j = 0; j < n; j++) {
    const ACC w = rk1_load(T, p, j * inner);
    rank += NAME(before)(w, v) || (j < i && !NAME(before)(v, w));
  }
  if (rank < k) y[(row * k + rank) * inner + column] = i;
#endif
}
