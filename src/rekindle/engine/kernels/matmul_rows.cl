/* Few rows times a matrix on a GPU, bound by reading b once.

   A work-group is 64 columns of one row; its four quarters share the terms of the sum and add up
   in local memory. Neighbouring lanes read neighbouring floats of b; a is uniform.

   `offsets` as in matmul_local. Global size: (columns up to 64 n, 4 M, batches).

   TRANSPOSE_A  a is (K, M)
   AT, BT, YT, W4, SCALES as in matmul_local */
#if W4
#define NUMBER(k) rk1_nibble(b, N, k, safe)
#else
#define NUMBER(k) rk1_load(BT, b, (k) * N)
#endif
#if SCALES == 2
#define LOAD_B(k) (NUMBER(k) * scales[(k) / G * N + safe])
#else
#define LOAD_B(k) NUMBER(k)
#endif

__kernel __attribute__((reqd_work_group_size(64, 4, 1))) void NAME(matmul)(
    const __global AT *restrict a, const __global BT *restrict b,
    const __global int *restrict offsets,
#if SCALES
    const __global float *restrict scales, int G,
#endif
    int OFFSETS, int M, int N, int K,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  __local float parts[4][64];
  const int column = get_global_id(0), row = get_group_id(1), batch = get_global_id(2);
  const int lane = get_local_id(0), quarter = get_local_id(1);
  const __global int *table = offsets + batch * OFFSETS;
  const int safe = min(column, N - 1), share = (K + 3) / 4;
  const int k0 = min(quarter * share, K), k1 = min(k0 + share, K);
  a += table[0] + (TRANSPOSE_A ? row : row * K);
#if !W4
  b += table[1] * K * N + safe;
#endif
  float sum = 0.0f;
  /* Eight loads in flight, or each would be waited for by itself. */
  #pragma unroll 8
  for (int k = k0; k < k1; k++) sum += rk1_load(AT, a, TRANSPOSE_A ? k * M : k) * LOAD_B(k);
  parts[quarter][lane] = sum;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (quarter == 0 && column < N) {
    float v = parts[0][lane] + parts[1][lane] + parts[2][lane] + parts[3][lane];
#if SCALES == 1
    v *= scales[column];
#endif
    EPILOGUE_READ(row, column)
    rk1_store(YT, y, (batch * M + row) * N + column, EPILOGUE);
  }
}
#undef NUMBER
#undef LOAD_B
