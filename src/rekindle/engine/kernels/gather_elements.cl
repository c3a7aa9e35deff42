/* y[i] = x[... index[i] along one axis ...]: one element for each index. A negative index counts
   from the end; one outside the axis cannot raise here and takes the nearest element. */
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(gather_elements)(const __global T *restrict x,
                                    const __global INDEX *restrict index, PARAMS const int axis,
                                    const int stride, const int count, const int chunk,
                                    __global T *restrict y) {
  const int begin = (int)get_global_id(0) * chunk;
  const int end = min(begin + chunk, count);
  for (int i = begin; i < end; i++) {
    OFFSETS
    const INDEX given = index[i], whole = given < 0 ? given + axis : given;
    y[i] = x[ox + (int)clamp(whole, (INDEX)0, (INDEX)(axis - 1)) * stride];
  }
}
