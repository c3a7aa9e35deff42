/* Packs b, computed at run time, into the panels that matmul_tiled reads.

   A work-item copies one vector of columns over T terms of the sum. Vector v begins at column
   v * VW, or at the last place where it fits; a narrow b is padded with zeros.
   Global size: (vectors of all panels, jobs, matrices of b). R: vectors of a panel.

   VW           floats in a vector
   TRANSPOSE_B  b is (N, K)
   BT           how b is stored; panels are float, so that the product does not convert them again */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(pack)(
    const __global BT *restrict b, int N, int K, int R, int T, __global float *restrict panels)
{
  const int vector = get_global_id(0), matrix = get_global_id(2);
  const int k0 = get_global_id(1) * T, k1 = min(k0 + T, K), wide = min(VW, N);
  const int first = max(0, min(vector * VW, N - VW));
  const int panel = matrix * ((int)get_global_size(0) / R) + vector / R;
  b += matrix * K * N;
  panels += (panel * K * R + vector % R) * VW;
  for (int k = k0; k < k1; k++)
    for (int j = 0; j < VW; j++) {
      const int column = first + min(j, wide - 1);
      const float v = rk1_load(BT, b, TRANSPOSE_B ? column * K + k : k * N + column);
      panels[k * R * VW + j] = j < wide ? v : 0.0f;
    }
}
