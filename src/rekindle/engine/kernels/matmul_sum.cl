/* The second half of a matrix product in slices: adds them, in their order, and the epilogue.

   x: floats (S, batches, M, N). Global size: (columns, rows, batches).

   SUMS    1: what this launch promises of its instructions
   SCALES  1: columns of the product are multiplied by `scales` (N)
   YT      how y is stored */
__kernel void NAME(sum)(
    const __global float *restrict x, const __global int *restrict offsets,
#if SCALES
    const __global float *restrict scales,
#endif
    int OFFSETS, int S, int M, int N, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int column = get_global_id(0), row = get_global_id(1), batch = get_global_id(2);
  const __global int *table = offsets + batch * OFFSETS;
  const int at = (batch * M + row) * N + column, slice = get_global_size(2) * M * N;
  float v = x[at];
  for (int s = 1; s < S; s++) v += x[at + s * slice];
#if SCALES
  v *= scales[column];
#endif
  EPILOGUE_READ(row, column)
  rk1_store(YT, y, at, EPILOGUE);
}
