/* Every element of y is `value`, given as the bits of T. */
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(fill)(const WIDE value, const int count, const int chunk,
                         __global T *restrict y) {
  const int begin = (int)get_global_id(0) * chunk;
  const int end = min(begin + chunk, count);
  for (int i = begin; i < end; i++) y[i] = (T)value;
}
