/* Dense convolution on a CPU: x and y blocked by 16 channels, weights packed in panels.

   A work-item computes tiles of P output pixels x Q blocks of 16 output channels, each tile in
   registers over the whole sum: per input channel R vectors of weights and P scalars of x. The P
   pixels follow each other in the whole image, not in a row: each has a pointer of its own, which
   points to zeros where a tap lies in the padding. So there are no edge tiles, no masks and no
   halo, any stride or dilation is the same code, and a 7 x 7 image wastes a tile's tail once, not
   in each row. It costs P selects for 16 * P * R vector multiply-adds. The last tile of an image
   is moved back to overlap the one before it: y must not alias what an epilogue reads.

   Weights: (blocks of M / Q, blocks of C, KH, KW, 16 c, Q * 16 m), zero where a block is padded.
   Global size: (jobs, blocks of M / Q, batch); a job is T tiles.

   Narrow x is widened a block of 16 channels at a time into s: one conversion serves 16 Q outputs.
   So is x multiplied there by a gate for each channel (squeeze-and-excitation): with few panels of
   outputs that costs less than to store the product and read it again.

   P, Q        the tile
   VW          floats in a vector: 8 or 16
   POINTWISE   1 x 1, stride 1, no padding: pixel i of y is made of pixel i of x
   PACKED      1 x 1, no padding, and x comes from conv_pack; POINTWISE is 1, too
   XT, WT, YT  how x, the weights and y are stored
   NARROW      x is not stored as float
   GATED       x is multiplied by `gate` (batch, blocks of C, 16)
   W4          weights are four bits each, see rk_nibbles
   SCALES      1: sums are multiplied by `scales` (M); 2: weights are, by `scales` (blocks of M / Q,
               groups of G blocks of C, KH, KW, Q * 16) */
#include "_vectors.cl"
#define R (Q * 16 / VW)
#define LOAD(p) (*(const __global V *)(p))
#if W4
#define WEIGHTS(n) ((n) / 2)
#define WEIGHT(r) rk_nibbles(VW, wp, r)
#else
#define WEIGHTS(n) (n)
#define WEIGHT(r) rk_load(VW, WT, wp + (r) * VW)
#endif
#if NARROW || GATED
#define X(i, c) s[i][c]
/* 16, which the compiler must not know: it would unroll the loop, keep s in vectors and shuffle
   them, at half the speed. */
#define CHANNELS (T < 0 ? 0 : 16)
#else
#define X(i, c) at[i][c]
#define CHANNELS 16
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(conv)(
    const __global XT *restrict x, const __global WT *restrict w,
    const __global float *restrict bias, const __global XT *restrict zeros,
#if SCALES
    const __global float *restrict scales, int G,
#endif
#if GATED
    const __global XT *restrict gate,
#endif
    int M, int XB, int CB, int MB, int H, int W, int OH, int OW, int KH, int KW, int SH, int SW,
    int PH, int PW, int DH, int DW, int T, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int q = get_global_id(1), n = get_global_id(2);
  const int pixels = OH * OW, plane = (PACKED ? P : H * W) * 16;
  const int tiles = (pixels + P - 1) / P;
  const int end = min(((int)get_global_id(0) + 1) * T, tiles);
  /* x has XB blocks of channels; MB output blocks read the CB input blocks of their group. */
  x += (n * XB * (PACKED ? tiles : 1) + q * Q / MB * CB) * plane;
  for (int t = get_global_id(0) * T; t < end; t++) {
    const int p0 = min(t * P, pixels - P);
    V a[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) a[i][r] = SCALES == 1 ? (V)0.0f : LOAD(bias + (q * R + r) * VW);
#if !POINTWISE
    int y0[P], x0[P];
    #pragma unroll
    for (int i = 0; i < P; i++) {
      y0[i] = (p0 + i) / OW * SH - PH;
      x0[i] = (p0 + i) % OW * SW - PW;
    }
#endif
    const __global XT *xp = x + (PACKED ? t * XB * plane : 0);
    const __global WT *wp = w + WEIGHTS(q * CB * KH * KW * Q * 256);
    for (int cb = 0; cb < CB; cb++, xp += plane)
#if !POINTWISE
      for (int ky = 0; ky < KH; ky++)
        for (int kx = 0; kx < KW; kx++)
#endif
        {
          const __global XT *at[P];
          #pragma unroll
          for (int i = 0; i < P; i++) {
#if POINTWISE
            at[i] = xp + (PACKED ? i : p0 + i) * 16;
#else
            const int iy = y0[i] + ky * DH, ix = x0[i] + kx * DW;
            at[i] = (uint)iy < (uint)H && (uint)ix < (uint)W ? xp + (iy * W + ix) * 16 : zeros;
#endif
          }
#if NARROW || GATED
          float s[P][16] __attribute__((aligned(64)));
#if GATED
          const float16 g = rk_load(16, XT, gate + (n * XB + q * Q / MB * CB + cb) * 16);
#endif
          #pragma unroll
          for (int i = 0; i < P; i++)
#if GATED
            *(float16 *)s[i] = rk_load(16, XT, at[i]) * g;
#else
            *(float16 *)s[i] = rk_load(16, XT, at[i]);
#endif
#endif
#if SCALES == 2
#if POINTWISE
          const int tap = 0;
#else
          const int tap = ky * KW + kx;
#endif
          const __global float *scale = scales + ((q * ((CB + G - 1) / G) + cb / G) * KH * KW + tap) * Q * 16;
#endif
          #pragma unroll 4
          for (int c = 0; c < CHANNELS; c++, wp += WEIGHTS(Q * 16)) {
            V b[R];
            #pragma unroll
            for (int r = 0; r < R; r++) b[r] = WEIGHT(r);
#if SCALES == 2
            #pragma unroll
            for (int r = 0; r < R; r++) b[r] *= LOAD(scale + r * VW);
#endif
            #pragma unroll
            for (int i = 0; i < P; i++)
              #pragma unroll
              for (int r = 0; r < R; r++) a[i][r] += X(i, c) * b[r];
          }
        }
    #pragma unroll
    for (int r = 0; r < R; r++) {
      const int m = (q * R + r) * VW;
      const int first = ((n * ((M + 15) / 16) + m / 16) * pixels + p0) * 16 + m % 16;
      const I real = LANES + m < M;
      #pragma unroll
      for (int i = 0; i < P; i++) {
#if SCALES == 1
        V v = a[i][r] * LOAD(scales + m) + LOAD(bias + m);
#else
        V v = a[i][r];
#endif
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
#undef WEIGHTS
#undef WEIGHT
#undef X
#undef CHANNELS
