/* Keys in the order attention_tiled reads them: panels of 16, each (size, 16 keys), zeros past the
   end.

   k: rows of D floats; batch b, head h, key n begins at b * KB + h * KH + n * KN.
   Global size: (panels, heads, batch).

   D   floats in a key
   KT  how k is stored; panels are float */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(pack)(
    const __global KT *restrict k, int N, int KB, int KH, int KN, __global float *restrict panels)
{
  const int p = get_global_id(0), h = get_global_id(1), b = get_global_id(2);
  const int count = min(16, N - p * 16);
  k += b * KB + h * KH + p * 16 * KN;
  panels += ((b * (int)get_global_size(1) + h) * (int)get_global_size(0) + p) * D * 16;
  if (count == 16)
    for (int d = 0; d < D; d++)
      #pragma unroll
      for (int j = 0; j < 16; j++) panels[d * 16 + j] = rk1_load(KT, k, j * KN + d);
  else
    for (int d = 0; d < D; d++)
      for (int j = 0; j < 16; j++) panels[d * 16 + j] = j < count ? rk1_load(KT, k, j * KN + d) : 0.0f;
}
