/* Matrix product on a GPU: tiles of both operands in local memory.

   A work-group of 16 x 16 computes 16 TM x 64 elements, a work-item TM rows of 4 columns: with
   TM = 8 a work-item reads 12 floats of local memory for 32 multiply-adds, where 4 x 4 would need
   16. Outside a and b the tiles hold zeros; rows and columns outside y are not stored.

   `offsets`: per batch the first element of a, the number of b's matrix, the first element of
   each operand of the epilogue. Global size: (columns, rows, batches) of work-items.

   TM           rows of a work-item
   TRANSPOSE_A  a is (K, M)
   TRANSPOSE_B  b is (N, K)
   AT, BT, YT   how a, b and y are stored
   W4           b is four bits each, see rk1_nibble
   SCALES       1: columns of the product are multiplied by `scales` (N); 2: b is, by `scales`
                (groups of G terms, N) */
#define KT 16
#define ROWS (16 * TM)
#define COLUMNS 64
#if W4
#define NUMBER(k, j) rk1_nibble(b, N, k, j)
#else
#define NUMBER(k, j) rk1_load(BT, b, TRANSPOSE_B ? (j) * K + (k) : (k) * N + (j))
#endif
#if SCALES == 2
#define LOAD_B(k, j) (NUMBER(k, j) * scales[(k) / G * N + (j)])
#else
#define LOAD_B(k, j) NUMBER(k, j)
#endif

__kernel __attribute__((reqd_work_group_size(16, 16, 1))) void NAME(matmul)(
    const __global AT *restrict a, const __global BT *restrict b,
    const __global int *restrict offsets,
#if SCALES
    const __global float *restrict scales, int G,
#endif
    int OFFSETS, int M, int N, int K,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  __local float a_tile[KT][ROWS] __attribute__((aligned(16)));
  __local float b_tile[KT][COLUMNS] __attribute__((aligned(16)));
  const int lx = get_local_id(0), ly = get_local_id(1), lane = ly * 16 + lx;
  const int row0 = get_group_id(1) * ROWS, column0 = get_group_id(0) * COLUMNS;
  const int batch = get_global_id(2);
  const __global int *table = offsets + batch * OFFSETS;
  a += table[0];
#if !W4
  b += table[1] * K * N;
#endif
  y += batch * M * N;
  float sum[TM][4];
  #pragma unroll
  for (int i = 0; i < TM; i++)
    #pragma unroll
    for (int j = 0; j < 4; j++) sum[i][j] = 0.0f;
  for (int k0 = 0; k0 < K; k0 += KT) {
    /* Neighbouring work-items read neighbouring floats, whichever way an operand lies. */
    for (int e = lane; e < KT * ROWS; e += 256) {
      const int k = TRANSPOSE_A ? e / ROWS : e % KT, i = TRANSPOSE_A ? e % ROWS : e / KT;
      const int row = row0 + i, in = row < M && k0 + k < K;
      a_tile[k][i] = in ? rk1_load(AT, a, TRANSPOSE_A ? (k0 + k) * M + row : row * K + k0 + k) : 0.0f;
    }
    for (int e = lane; e < KT * COLUMNS; e += 256) {
      const int k = TRANSPOSE_B ? e % KT : e / COLUMNS, j = TRANSPOSE_B ? e / KT : e % COLUMNS;
      const int column = column0 + j, in = column < N && k0 + k < K;
      b_tile[k][j] = in ? LOAD_B(k0 + k, column) : 0.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    #pragma unroll
    for (int k = 0; k < KT; k++) {
      float left[TM], right[4];
      #pragma unroll
      for (int i = 0; i < TM; i++) left[i] = a_tile[k][ly * TM + i];
      #pragma unroll
      for (int j = 0; j < 4; j++) right[j] = b_tile[k][lx * 4 + j];
      #pragma unroll
      for (int i = 0; i < TM; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++) sum[i][j] += left[i] * right[j];
    }
    barrier(CLK_LOCAL_MEM_FENCE);
  }
  #pragma unroll
  for (int i = 0; i < TM; i++)
    #pragma unroll
    for (int j = 0; j < 4; j++) {
      const int row = row0 + ly * TM + i, column = column0 + lx * 4 + j;
      if (row < M && column < N) {
        float v = sum[i][j];
#if SCALES == 1
        v *= scales[column];
#endif
        EPILOGUE_READ(row, column)
        rk1_store(YT, y, row * N + column, EPILOGUE);
      }
    }
}
#undef KT
#undef ROWS
#undef COLUMNS
#undef NUMBER
#undef LOAD_B
