/* Matrix product on a GPU: a's rows through scalar registers, b's columns across the lanes.

   A work-group is 64 lanes of TN columns, and TM rows, whose sums are in registers. The address
   of a depends on group ids only, so on GCN its numbers travel through scalar registers: a
   multiply-add is one v_mac_f32 with a scalar operand, without local memory or barriers. The last
   rows may be among those of the group before, which stores them. Lanes past the columns compute
   the last ones again and store nothing.

   Of a product in S slices each work-group sums TERMS terms, and matmul_sum adds the slices.
   `offsets`: per batch the first element of a, the number of b's matrix, the first element of
   each operand of the epilogue. Global size: (columns up to 64 TN n / TN, M / TM, batches * S).

   TM, TN   rows of a work-group, columns of a lane: TN divides N, TM <= M
   K        terms, known here so that each row of a is a constant offset
   TERMS    terms of a slice, a multiple of 4, or K
   SLICED   1: y is floats (S, batches, M, N), without epilogue
   FLOATS   1: b is float
   BT, YT   how b and y are stored */
#define STEP 4

/* r = TN numbers of a row of b: one load, where there is a vector for it. */
static inline void NAME(read)(float *r, const __global BT *restrict row)
{
#if TN == 4
  const float4 all = rk_load(4, BT, row);
  r[0] = all.x, r[1] = all.y, r[2] = all.z, r[3] = all.w;
#elif TN == 2 && FLOATS
  const float2 all = *(const __global float2 *)row;
  r[0] = all.x, r[1] = all.y;
#else
  #pragma unroll
  for (int j = 0; j < TN; j++) r[j] = rk1_load(BT, row, j);
#endif
}

/* Adds `left`, column k of a, times `right`, row k of b. */
static inline void NAME(add)(float (*sum)[TN], float left, const float *right)
{
  #pragma unroll
  for (int j = 0; j < TN; j++) (*sum)[j] += left * right[j];
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(matmul)(
    const __global float *restrict a, const __global BT *restrict b,
    const __global int *restrict offsets, int OFFSETS, int BATCHES, int M, int N,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  const int batch = get_group_id(2) % BATCHES, slice = get_group_id(2) / BATCHES;
  const int first = get_group_id(1) * TM, row0 = min(first, M - TM);
  const int mine = (get_group_id(0) * 64 + get_local_id(0)) * TN, column = min(mine, N - TN);
  const __global int *table = offsets + batch * OFFSETS;
  const __global float *left = a + table[0] + row0 * K + slice * TERMS;
  const __global BT *right = b + (table[1] * K + slice * TERMS) * N + column;
  float sum[TM][TN];
  #pragma unroll
  for (int i = 0; i < TM; i++)
    #pragma unroll
    for (int j = 0; j < TN; j++) sum[i][j] = 0.0f;
  const int terms = min(TERMS, K - slice * TERMS);
  int k = 0;
#if K >= STEP
  do {
    float r[STEP][TN];
    #pragma unroll
    for (int u = 0; u < STEP; u++) {
      NAME(read)(r[u], right);
      right += N;
    }
    #pragma unroll
    for (int i = 0; i < TM; i++) {
      union { float4 all; float each[STEP]; } l;
      l.all = rk_load_any(4, float, left + i * K);
      #pragma unroll
      for (int u = 0; u < STEP; u++) NAME(add)(sum + i, l.each[u], r[u]);
    }
    left += STEP;
    k += STEP;
  } while (k + STEP <= terms);
#endif
#if K % STEP
  for (; k < terms; k++) {
    float r[TN];
    NAME(read)(r, right);
    #pragma unroll
    for (int i = 0; i < TM; i++) NAME(add)(sum + i, left[i * K], r);
    left++;
    right += N;
  }
#endif
  if (mine >= N) return;
  y += (slice * BATCHES + batch) * M * N;
  #pragma unroll
  for (int i = 0; i < TM; i++) {
    const int row = row0 + i;
    if (row >= first)
      #pragma unroll
      for (int j = 0; j < TN; j++) {
        float v = sum[i][j];
#if !SLICED
        EPILOGUE_READ(row, column + j)
        v = EPILOGUE;
#endif
        rk1_store(YT, y, row * N + column + j, v);
      }
  }
}
#undef STEP
