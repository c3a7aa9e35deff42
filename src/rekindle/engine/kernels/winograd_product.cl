/* Winograd convolution, stage 2 of 3: at each of the E * E points, a product over the channels.

   A work-item computes tiles of P positions x Q blocks of 16 output channels in registers over
   the whole sum, as conv_tiled does for 1 x 1 filters. A position is a Winograd tile; the last
   P are moved back to overlap the ones before.

   v: (points, CB, N, 16). u: (points, blocks of M / Q, CB, 16 c, Q * 16 m), N positions.
   y: (points, blocks of M, N, 16). Global size: (jobs, blocks of M / Q, points); a job is T tiles.

   P, Q  the tile
   VW    floats in a vector: 8 or 16
   UT    how u is stored */
#if VW == 16
#define V float16
#else
#define V float8
#endif
#define R (Q * 16 / VW)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(product)(
    const __global float *restrict v, const __global UT *restrict u, int CB, int N, int T,
    __global float *restrict y)
{
  const int q = get_global_id(1), z = get_global_id(2), panels = get_global_size(1);
  const int end = min(((int)get_global_id(0) + 1) * T, (N + P - 1) / P);
  v += z * CB * N * 16;
  u += (z * panels + q) * CB * Q * 256;
  y += (z * panels + q) * Q * N * 16;
  for (int t = get_global_id(0) * T; t < end; t++) {
    const int p0 = min(t * P, N - P);
    const __global float *at = v + p0 * 16;
    const __global UT *k = u;
    V a[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) a[i][r] = (V)0.0f;
    for (int cb = 0; cb < CB; cb++, at += N * 16)
      #pragma unroll 4
      for (int c = 0; c < 16; c++, k += Q * 16) {
        V b[R];
        #pragma unroll
        for (int r = 0; r < R; r++) b[r] = rk_load(VW, UT, k + r * VW);
        #pragma unroll
        for (int i = 0; i < P; i++)
          #pragma unroll
          for (int r = 0; r < R; r++) a[i][r] += at[i * 16 + c] * b[r];
      }
    #pragma unroll
    for (int r = 0; r < R; r++)
      #pragma unroll
      for (int i = 0; i < P; i++)
        *(__global V *)(y + (r * VW / 16 * N + p0 + i) * 16 + r * VW % 16) = a[i][r];
  }
}
#undef V
#undef R
