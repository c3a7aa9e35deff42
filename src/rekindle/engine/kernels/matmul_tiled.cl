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
                zeros then), or the epilogue cannot be written for vectors
   AT, BT, YT   how a, b and y are stored
   NARROW       a is not stored as float
   W4           b is four bits each, see rk_nibbles
   SCALES       1: sums are multiplied by `scales` (panels, Q * 16); 2: b is, by `scales` (panels,
                groups of G terms, Q * 16) */
#if VW == 16
#define V float16
#else
#define V float8
#endif
#define R (Q * 16 / VW)
#if W4
#define WEIGHTS(n) ((n) / 2)
#define WEIGHT(r) rk_nibbles(VW, bk, r)
#else
#define WEIGHTS(n) (n)
/* Rows of b begin anywhere. */
#define WEIGHT(r) rk_load_any(VW, BT, bk + (ROWS_B ? columns[r] : (r) * VW))
#endif
#define A(i, k) rk1_load(AT, a, TRANSPOSE_A ? (k) * M + p0 + (i) : (p0 + (i)) * K + (k))
/* Terms that are widened, or scaled, together. */
#define RUN 16

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(matmul)(
    const __global AT *restrict a, const __global BT *restrict b,
    const __global int *restrict offsets,
#if SCALES
    const __global float *restrict scales, int G,
#endif
    int OFFSETS, int M, int N, int K, int T, EPILOGUE_PARAMS __global YT *restrict y)
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
  b += WEIGHTS((table[1] * (int)get_global_size(1) + panel) * K * Q * 16);
  const int step = WEIGHTS(Q * 16);
#endif
  for (int t = get_global_id(0) * T; t < end; t++) {
    const int p0 = min(t * P, M - P);
    V sum[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) sum[i][r] = (V)0.0f;
    const __global BT *bk = b;
#if NARROW || SCALES == 2
    for (int k0 = 0; k0 < K; k0 += RUN) {
      const int run = min(RUN, K - k0);
      float s[P][RUN] __attribute__((aligned(64)));
      #pragma unroll
      for (int i = 0; i < P; i++) {
        if (!TRANSPOSE_A && run == RUN)
          *(float16 *)s[i] = rk_load_any(16, AT, a + (p0 + i) * K + k0);
        else
          for (int k = 0; k < run; k++) s[i][k] = A(i, k0 + k);
      }
#if SCALES == 2
      const __global float *scale = scales + (panel * ((K + G - 1) / G) + k0 / G) * Q * 16;
#endif
      #pragma unroll 4
      for (int k = 0; k < run; k++, bk += step) {
        V column[R];
        #pragma unroll
        for (int r = 0; r < R; r++) column[r] = WEIGHT(r);
#if SCALES == 2
        #pragma unroll
        for (int r = 0; r < R; r++) column[r] *= rk_load(VW, float, scale + r * VW);
#endif
        #pragma unroll
        for (int i = 0; i < P; i++)
          #pragma unroll
          for (int r = 0; r < R; r++) sum[i][r] += s[i][k] * column[r];
      }
    }
#else
    #pragma unroll 4
    for (int k = 0; k < K; k++, bk += step) {
      V column[R];
      #pragma unroll
      for (int r = 0; r < R; r++) column[r] = WEIGHT(r);
      #pragma unroll
      for (int i = 0; i < P; i++)
        #pragma unroll
        for (int r = 0; r < R; r++) sum[i][r] += A(i, k) * column[r];
    }
#endif
#if SCALES == 1
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) sum[i][r] *= rk_load(VW, float, scales + (panel * R + r) * VW);
#endif
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
          rk1_store(YT, y, at + j, EPILOGUE);
        }
#else
        V v = sum[i][r];
        EPILOGUE_READ(row, columns[r])
        rk_store_any(VW, YT, EPILOGUE, y + at);
#endif
      }
  }
}
#undef V
#undef R
#undef WEIGHTS
#undef WEIGHT
#undef A
#undef RUN
