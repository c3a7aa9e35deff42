/* Matrix product on a CPU: rows of a times panels of b, in register tiles.

   A work-item computes tiles of P rows x Q * 16 columns over the whole sum: per term R vectors of
   b and P scalars of a. b comes in panels, or as it lies where too few rows would pay for packing
   it (ROWS_B). The last tile of rows is moved back to overlap the one before it, and so is the
   last vector of columns; a panel's surplus vectors repeat it. So nothing is masked; y must not
   alias what an epilogue reads.

   With ROOM a job copies its rows of a, in the order in which it reads them, and goes with them
   through many panels: else each panel reads all of a anew, from behind the second-level cache,
   through as many pages as the tile has rows. Measured at 2048^3 on Zen 3: 161 GFLOP/s, before 119.

   Panels: (matrices of b, PANELS, K, Q * 16). `offsets`: per batch the first element of a, the
   number of b's matrix, the first element of each operand of the epilogue.
   Global size: (jobs along rows, jobs along panels, batches); a job is T tiles x EACH panels.

   P, Q         the tile
   VW           floats in a vector: 8 or 16
   TRANSPOSE_A  a is (K, M)
   ROWS_B       b is (matrices, K, N) as it lies
   SINGLY       the epilogue takes an element at a time: N is less than VW (panels are padded with
                zeros then), or the epilogue cannot be written for vectors
   AT, BT, YT   how a, b and y are stored
   NARROW       a is not stored as float
   ROOM         floats that T * P rows of a take, or more; 0: a is read where it lies
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
#define LOAD_A(i, k) rk1_load(AT, a, TRANSPOSE_A ? (k) * M + p0 + (i) : (p0 + (i)) * K + (k))
#if ROOM
#define A(i, k) own[(k) * P + (i)]
#else
#define A(i, k) LOAD_A(i, k)
#endif
/* Terms that are widened, or scaled, together. */
#define RUN 16

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(matmul)(
    const __global AT *restrict a, const __global BT *restrict b,
    const __global int *restrict offsets,
#if SCALES
    const __global float *restrict scales, int G,
#endif
    int OFFSETS, int M, int N, int K, int T, int PANELS, int EACH,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  const int batch = get_global_id(2), t0 = get_global_id(0) * T;
  const int tiles = min(T, (M + P - 1) / P - t0);
  const int first = get_global_id(1) * EACH, panels = min(EACH, PANELS - first);
  const __global int *table = offsets + batch * OFFSETS;
  a += table[0];
  y += batch * M * N;
#if ROOM
  float rows[ROOM] __attribute__((aligned(64)));
  for (int t = 0; t < tiles; t++) {
    const int p0 = min((t0 + t) * P, M - P);
    for (int k = 0; k < K; k++)
      #pragma unroll
      for (int i = 0; i < P; i++) rows[(t * K + k) * P + i] = LOAD_A(i, k);
  }
#endif
#if ROWS_B
  const int step = N;
#else
  const int step = WEIGHTS(Q * 16);
#endif
  for (int n = 0; n < tiles * panels; n++) {
    const int t = n % tiles, panel = first + n / tiles, p0 = min((t0 + t) * P, M - P);
    int columns[R];
    #pragma unroll
    for (int r = 0; r < R; r++) columns[r] = max(0, min((panel * R + r) * VW, N - VW));
#if ROOM
    const float *own = rows + t * K * P;
#endif
    V sum[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) sum[i][r] = (V)0.0f;
#if ROWS_B
    const __global BT *bk = b + table[1] * K * N;
#else
    const __global BT *bk = b + WEIGHTS((table[1] * PANELS + panel) * K * Q * 16);
#endif
#if (NARROW && !ROOM) || SCALES == 2
    for (int k0 = 0; k0 < K; k0 += RUN) {
      const int run = min(RUN, K - k0);
      float s[P][RUN] __attribute__((aligned(64)));
      #pragma unroll
      for (int i = 0; i < P; i++) {
        if (!(TRANSPOSE_A | ROOM) && run == RUN)
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
#undef LOAD_A
#undef RUN
