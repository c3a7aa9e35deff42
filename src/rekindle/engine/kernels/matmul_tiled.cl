/* Matrix product on a CPU: rows of a times panels of b, in register tiles.

   A work-item computes tiles of P rows x Q * 16 columns over the whole sum: per term R vectors of
   b and P scalars of a. b comes in panels, or as it lies where too few rows would pay for packing
   it (ROWS_B). The last tile of rows is moved back to overlap the one before it, and so is the
   last vector of columns; a panel's surplus vectors repeat it. So nothing is masked; y must not
   alias what an epilogue reads.

   Panels: (matrices of b, panels, K, Q * 16). `offsets`: per batch the first element of a, the
   number of b's matrix, the first element of each operand of the epilogue.
   Global size: (jobs, panels, batches); a job is T tiles.

   P, Q         the tile
   VW           floats in a vector: 8 or 16
   TRANSPOSE_A  a is (K, M)
   ROWS_B       b is (matrices, K, N) as it lies
   SINGLY       the epilogue takes an element at a time: N is less than VW (panels are padded with
                zeros then), or the epilogue cannot be written for vectors */
#if VW == 16
#define V float16
#else
#define V float8
#endif
#define R (Q * 16 / VW)
/* Any address of a float will do: rows of y and b begin anywhere. */
typedef struct __attribute__((packed)) { V v; } NAME(Loose);
#define LOAD(p) (((const __global NAME(Loose) *)(p))->v)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(matmul)(
    const __global float *restrict a, const __global float *restrict b,
    const __global int *restrict offsets, int OFFSETS, int M, int N, int K, int T,
    EPILOGUE_PARAMS __global float *restrict y)
{
  const int panel = get_global_id(1), batch = get_global_id(2), tiles = (M + P - 1) / P;
  const int end = min(((int)get_global_id(0) + 1) * T, tiles);
  const __global int *table = offsets + batch * OFFSETS;
  a += table[0];
  y += batch * M * N;
  int columns[R];
  #pragma unroll
  for (int r = 0; r < R; r++) columns[r] = max(0, min((panel * R + r) * VW, N - VW));
#if ROWS_B
  b += table[1] * K * N;
  const int step = N;
#else
  b += (table[1] * (int)get_global_size(1) + panel) * K * Q * 16;
  const int step = Q * 16;
#endif
  for (int t = get_global_id(0) * T; t < end; t++) {
    const int p0 = min(t * P, M - P);
    V sum[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) sum[i][r] = (V)0.0f;
    const __global float *bk = b;
    #pragma unroll 4
    for (int k = 0; k < K; k++, bk += step) {
      V column[R];
      #pragma unroll
      for (int r = 0; r < R; r++) column[r] = LOAD(bk + (ROWS_B ? columns[r] : r * VW));
      #pragma unroll
      for (int i = 0; i < P; i++)
        #pragma unroll
        for (int r = 0; r < R; r++)
          sum[i][r] += (TRANSPOSE_A ? a[k * M + p0 + i] : a[(p0 + i) * K + k]) * column[r];
    }
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) {
        const int row = p0 + i, at = row * N + columns[r];
#if SINGLY
        union { V all; float each[VW]; } lanes;
        lanes.all = sum[i][r];
        for (int j = 0; j < min(N, VW); j++) {
          float v = lanes.each[j];
          EPILOGUE_READ(row, columns[r] + j)
          y[at + j] = EPILOGUE;
        }
#else
        V v = sum[i][r];
        EPILOGUE_READ(row, columns[r])
        ((__global NAME(Loose) *)(y + at))->v = EPILOGUE;
#endif
      }
  }
}
#undef V
#undef R
#undef LOAD
