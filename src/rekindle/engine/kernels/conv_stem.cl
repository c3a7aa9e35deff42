/* The first convolution of a network on a CPU: x row-major with few channels, y blocked by 16.

   As in conv_tiled, a work-item computes tiles of P output pixels x Q blocks of 16 output channels
   in registers, but channel by channel, and the P pixels lie in one row: where no tap of the tile
   leaves the row, its scalars are at constant distances from one pointer. Rows outside x are left
   out; a tile that crosses the side of x selects each scalar.

   Weights: (blocks of M / Q, C, KH, KW, Q * 16 m), zero past M.
   Global size: (output rows, blocks of M / Q, batch).

   The taps of a row are a loop: unrolled, LLVM 14 loads the row as vectors, shuffles them, spills,
   and takes three times as long on AVX2.

   P, Q, VW  as in conv_tiled
   SW        the stride along a row
   XT, YT    how x and y are stored; the weights, a few kilobytes, are float */
#include "_vectors.cl"
#define R (Q * 16 / VW)
#define LOAD(p) (*(const __global V *)(p))

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(conv)(
    const __global XT *restrict x, const __global float *restrict w,
    const __global float *restrict bias, int M, int C, int H, int W, int OH, int OW, int KH,
    int KW, int SH, int PH, int PW, int DH, int DW, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int oy = get_global_id(0), q = get_global_id(1), n = get_global_id(2);
  x += n * C * H * W;
  for (int t = 0; t < OW; t += P) {
    const int ox = min(t, OW - P), x0 = ox * SW - PW;
    const int inside = x0 >= 0 && x0 + (P - 1) * SW + (KW - 1) * DW < W;
    V a[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) a[i][r] = LOAD(bias + (q * R + r) * VW);
    const __global float *wp = w + q * C * KH * KW * Q * 16;
    for (int c = 0; c < C; c++)
      for (int ky = 0; ky < KH; ky++, wp += KW * Q * 16) {
        const int iy = oy * SH - PH + ky * DH;
        if (iy < 0 || iy >= H) continue;
        const __global XT *row = x + (c * H + iy) * W;
        if (inside) {
          row += x0;
          const __global float *k = wp;
          #pragma unroll 1
          for (int kx = 0; kx < KW; kx++, row += DW, k += Q * 16)
            #pragma unroll
            for (int i = 0; i < P; i++)
              #pragma unroll
              for (int r = 0; r < R; r++) a[i][r] += rk1_load(XT, row, i * SW) * LOAD(k + r * VW);
        } else {
          for (int kx = 0; kx < KW; kx++)
            #pragma unroll
            for (int i = 0; i < P; i++) {
              const int ix = x0 + i * SW + kx * DW;
              const float s = (uint)ix < (uint)W ? rk1_load(XT, row, ix) : 0.0f;
              #pragma unroll
              for (int r = 0; r < R; r++) a[i][r] += s * LOAD(wp + (kx * R + r) * VW);
            }
        }
      }
    #pragma unroll
    for (int r = 0; r < R; r++) {
      const int m = (q * R + r) * VW;
      const int first = (((n * ((M + 15) / 16) + m / 16) * OH + oy) * OW + ox) * 16 + m % 16;
      const I real = LANES + m < M;
      #pragma unroll
      for (int i = 0; i < P; i++) {
        V v = a[i][r];
        EPILOGUE_READ(first + i * 16)
        v = EPILOGUE;
        rk_store(VW, YT, real ? v : (V)0.0f, y + first + i * 16);
      }
    }
  }
}
#undef V
#undef I
#undef LANES
#undef R
#undef LOAD
