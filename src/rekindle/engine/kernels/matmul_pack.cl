/* Packs b, computed at run time, into the panels that matmul_tiled reads.

   A work-item copies T terms of the sum, panel after panel: so each panel's part is written in one
   go, and the rows of b stay in few pages while every panel visits them. Vector v begins at
   column v * VW, or at the last place where it fits; a narrow b is padded with zeros.
   Global size: (jobs, matrices of b). R: vectors of a panel. VECTORS: of all panels.

   VW           floats in a vector
   TRANSPOSE_B  b is (N, K)
   BT           how b is stored; panels are float, so that the product does not convert them again */
#if VW == 16
#define V float16
#else
#define V float8
#endif
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(pack)(
    const __global BT *restrict b, int N, int K, int R, int VECTORS, int T,
    __global float *restrict panels)
{
  const int k0 = get_global_id(0) * T, k1 = min(k0 + T, K), wide = min(VW, N);
  const int matrix = get_global_id(1);
  b += matrix * K * N;
  panels += matrix * VECTORS * K * VW;
  for (int panel = 0; panel < VECTORS / R; panel++)
    for (int r = 0; r < R; r++) {
      const int first = max(0, min((panel * R + r) * VW, N - VW));
      __global float *to = panels + (panel * K * R + r) * VW;
      if (!TRANSPOSE_B && wide == VW) {
        for (int k = k0; k < k1; k++)
          *(__global V *)(to + k * R * VW) = rk_load_any(VW, BT, b + k * N + first);
      } else if (TRANSPOSE_B) {
        /* Along the rows of b; a column of the panel's part, a kilobyte or two, stays in cache. */
        for (int j = 0; j < VW; j++) {
          const __global BT *row = b + (first + min(j, wide - 1)) * K;
          for (int k = k0; k < k1; k++) to[k * R * VW + j] = j < wide ? rk1_load(BT, row, k) : 0.0f;
        }
      } else {
        for (int k = k0; k < k1; k++)
          for (int j = 0; j < VW; j++)
            to[k * R * VW + j] = j < wide ? rk1_load(BT, b, k * N + j) : 0.0f;
      }
    }
}
#undef V
