/* Matrix product on a GPU: a's rows through scalar registers, b's columns across the lanes.

   A work-group is 64 lanes of TN columns, and TM rows, whose sums are in registers. The address
   of a depends on group ids only, so on GCN its numbers travel through scalar registers: a
   multiply-add is one v_mac_f32 with a scalar operand, without local memory or barriers. The last
   rows may be among those of the group before, which stores them. Lanes past the columns compute
   the last ones again and store nothing.

   Of a product in S slices each work-group sums TERMS terms, and matmul_sum adds the slices.
   `offsets`: per batch the first element of a, the number of b's matrix, the first element of
   each operand of the epilogue. Global size: (columns up to 64 TN n / TN, M / TM, batches * S).

   b lies in quads: (matrices, K / 4, N up to a multiple of 4, 4 terms), zero past K and N, so that a
   load brings four terms of a column for the two instructions that its address takes.

   TM, TN   rows of a work-group, columns of a lane: 1, 2 or 4; TM <= M
   K        terms, known here so that each row of a is a constant offset
   TERMS    terms of a slice, a multiple of 4, or K
   SLICED   1: y is floats (S, batches, M, N), without scales and epilogue
   SCALES   1: columns of the product are multiplied by `scales` (N)
   BT, YT   how b and y are stored */
#define STEP 4

/* Adds `left`, column k of a, times `right`, row k of b. */
static inline void NAME(add)(float (*sum)[TN], float left, const float4 *right, int k)
{
  #pragma unroll
  for (int j = 0; j < TN; j++) {
    const float4 r = right[j];
    (*sum)[j] += left * (k == 0 ? r.x : k == 1 ? r.y : k == 2 ? r.z : r.w);
  }
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(matmul)(
    const __global float *restrict a, const __global BT *restrict b,
    const __global int *restrict offsets,
#if SCALES && !SLICED
    const __global float *restrict scales,
#endif
    int OFFSETS, int BATCHES, int M, int N, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int batch = get_group_id(2) % BATCHES, slice = get_group_id(2) / BATCHES;
  const int first = get_group_id(1) * TM, row0 = min(first, M - TM);
  const int pitch = (N + 3) / 4 * 4, mine = (get_group_id(0) * 64 + get_local_id(0)) * TN;
  const int column = min(mine, pitch - TN);
  const __global int *table = offsets + batch * OFFSETS;
  const __global float *left = a + table[0] + row0 * K + slice * TERMS;
  const __global BT *right =
      b + ((table[1] * ((K + 3) / 4) + slice * (TERMS / 4)) * pitch + column) * 4;
  float sum[TM][TN];
  #pragma unroll
  for (int i = 0; i < TM; i++)
    #pragma unroll
    for (int j = 0; j < TN; j++) sum[i][j] = 0.0f;
  const int terms = min(TERMS, K - slice * TERMS);
  int k = 0;
#if K >= STEP
  do {
    float4 r[TN];
    #pragma unroll
    for (int j = 0; j < TN; j++) r[j] = rk_load(4, BT, right + j * 4);
    #pragma unroll
    for (int i = 0; i < TM; i++) {
      union { float4 all; float each[STEP]; } l;
      l.all = rk_load_any(4, float, left + i * K);
      #pragma unroll
      for (int u = 0; u < STEP; u++) NAME(add)(sum + i, l.each[u], r, u);
    }
    left += STEP;
    right += pitch * 4;
    k += STEP;
  } while (k + STEP <= terms);
#endif
#if K % STEP
  if (k < terms) {
    float4 r[TN];
    #pragma unroll
    for (int j = 0; j < TN; j++) r[j] = rk_load(4, BT, right + j * 4);
    #pragma unroll
    for (int u = 0; u < K % STEP; u++)
      #pragma unroll
      for (int i = 0; i < TM; i++) NAME(add)(sum + i, left[i * K + u], r, u);
  }
#endif
  if (mine >= N) return;
  y += (slice * BATCHES + batch) * M * N;
  #pragma unroll
  for (int i = 0; i < TM; i++) {
    const int row = row0 + i;
    #pragma unroll
    for (int j = 0; j < TN; j++)
      if (row >= first && column + j < N) {
        float v = sum[i][j];
#if !SLICED
#if SCALES
        v *= scales[column + j];
#endif
        EPILOGUE_READ(row, column + j)
        v = EPILOGUE;
#endif
        rk1_store(YT, y, row * N + column + j, v);
      }
  }
}
#undef STEP
