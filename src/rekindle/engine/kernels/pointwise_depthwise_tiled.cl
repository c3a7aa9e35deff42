/* A 1 x 1 convolution and the depthwise one that reads it, on a CPU: what lies between is never
   stored. x and y are blocked by 16 channels.

   The depthwise sum of a channel needs that channel only. So a work-item takes one block of 16
   channels and T rows of y, and keeps the last KH rows of the expansion in s, a ring of rows that
   the first-level cache mostly holds: each is computed once, when the first row of y wants it.
   Only the KH - SH rows where two jobs meet are computed twice. Expanded images of the networks in
   question are several times as large as x and y and went to the third-level cache or to memory
   and back: they took more time than the arithmetic.

   A row in the ring begins and ends with zeros where the window reaches past the image.

   Weights: (blocks of M, blocks of C, 16 c, 16 m); taps: (blocks of M, KH, KW, 16 m), zero past M.
   Global size: (jobs, blocks of M, batch); a job is T rows.

   P           pixels of a tile of the expansion, at most W
   D           pixels of a tile of the depthwise sum, at most OW
   VW          floats in a vector: 8 or 16
   KH, KW, SW  window, and its stride along a row
   ROW         floats of a row in the ring
   MIDDLE      what is done to an expanded v
   XT, WT, YT  how x, the weights of the expansion and y are stored
   NARROW      x is not stored as float
   SCALES      1: sums of the expansion are multiplied by `scales` (M) */
#include "_vectors.cl"
#define R (16 / VW)
#define LOAD(p) (*(const __global V *)(p))
#define COLUMNS ((D - 1) * SW + KW)
#if NARROW
#define X(i, c) wide[i][c]
/* 16, which the compiler must not know: see conv_tiled. */
#define CHANNELS (T < 0 ? 0 : 16)
#else
#define X(i, c) at[i][c]
#define CHANNELS 16
#endif

/* One row of the expansion: x points to the row in its first block, `plane` floats before the
   next; `row` to where the first pixel goes. */
RK_INLINE void NAME(expand)(
    float *row, const __global XT *restrict x, const __global WT *restrict w,
    const __global float *restrict bias,
#if SCALES
    const __global float *restrict scales,
#endif
    int CB, int plane, int W, int T)
{
  for (int t = 0; t < W; t += P) {
    const int p0 = min(t, W - P);
    V a[P][R];
    #pragma unroll
    for (int i = 0; i < P; i++)
      #pragma unroll
      for (int r = 0; r < R; r++) a[i][r] = SCALES ? (V)0.0f : LOAD(bias + r * VW);
    const __global XT *xp = x + p0 * 16;
    const __global WT *wp = w;
    for (int cb = 0; cb < CB; cb++, xp += plane) {
      const __global XT *at[P];
      #pragma unroll
      for (int i = 0; i < P; i++) at[i] = xp + i * 16;
#if NARROW
      float wide[P][16] __attribute__((aligned(64)));
      #pragma unroll
      for (int i = 0; i < P; i++) *(float16 *)wide[i] = rk_load(16, XT, at[i]);
#endif
      #pragma unroll 4
      for (int c = 0; c < CHANNELS; c++, wp += 16) {
        V b[R];
        #pragma unroll
        for (int r = 0; r < R; r++) b[r] = rk_load(VW, WT, wp + r * VW);
        #pragma unroll
        for (int i = 0; i < P; i++)
          #pragma unroll
          for (int r = 0; r < R; r++) a[i][r] += X(i, c) * b[r];
      }
    }
    #pragma unroll
    for (int r = 0; r < R; r++)
      #pragma unroll
      for (int i = 0; i < P; i++) {
#if SCALES
        V v = a[i][r] * LOAD(scales + r * VW) + LOAD(bias + r * VW);
#else
        V v = a[i][r];
#endif
        *(V *)(row + (p0 + i) * 16 + r * VW) = MIDDLE;
      }
  }
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(chain)(
    const __global XT *restrict x, const __global WT *restrict w,
    const __global float *restrict bias,
#if SCALES
    const __global float *restrict scales,
#endif
    const __global float *restrict taps, const __global float *restrict taps_bias, int M, int CB,
    int H, int W, int OH, int OW, int SH, int PH, int PW, int T,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  float s[KH][ROW] __attribute__((aligned(64)));
  const int block = get_global_id(1), n = get_global_id(2);
  const int plane = H * W * 16, start = get_global_id(0) * T, end = min(start + T, OH);
  x += n * CB * plane;
  w += block * CB * 256;
  #pragma unroll
  for (int ky = 0; ky < KH; ky++)
    for (int j = 0; j < ROW; j += VW) *(V *)(s[ky] + j) = (V)0.0f;
  int next = 0; /* the first row of the expansion that is not in the ring */
  for (int oy = start; oy < end; oy++) {
    /* The rows y0 + ky0 to y0 + ky1 of the window lie in the image. */
    const int y0 = oy * SH - PH, ky0 = max(-y0, 0), ky1 = min(KH, H - y0);
    for (next = max(next, y0 + ky0); next < y0 + ky1; next++)
      NAME(expand)(s[next % KH] + PW * 16, x + next * W * 16, w, bias + block * 16,
#if SCALES
                   scales + block * 16,
#endif
                   CB, plane, W, T);
    for (int t = 0; t < OW; t += D) {
      const int ox = min(t, OW - D);
      #pragma unroll
      for (int lane = 0; lane < 16; lane += VW) {
        V a[D];
        #pragma unroll
        for (int i = 0; i < D; i++) a[i] = LOAD(taps_bias + block * 16 + lane);
        const __global float *wp = taps + (block * KH + ky0) * KW * 16 + lane;
        for (int ky = ky0; ky < ky1; ky++, wp += KW * 16) {
          const float *row = s[(y0 + ky) % KH] + ox * SW * 16 + lane;
          V b[KW];
          #pragma unroll
          for (int kx = 0; kx < KW; kx++) b[kx] = LOAD(wp + kx * 16);
          #pragma unroll
          for (int j = 0; j < COLUMNS; j++) {
            const V column = *(const V *)(row + j * 16);
            #pragma unroll
            for (int i = 0; i < D; i++)
              #pragma unroll
              for (int kx = 0; kx < KW; kx++)
                if (i * SW + kx == j) a[i] += column * b[kx];
          }
        }
        const int first = (((n * get_global_size(1) + block) * OH + oy) * OW + ox) * 16 + lane;
        const I real = LANES + block * 16 + lane < M;
        #pragma unroll
        for (int i = 0; i < D; i++) {
          V v = a[i];
          EPILOGUE_READ(first + i * 16)
          v = EPILOGUE;
          rk_store(VW, YT, real ? v : (V)0.0f, y + first + i * 16);
        }
      }
    }
  }
}
#undef V
#undef I
#undef LANES
#undef R
#undef LOAD
#undef COLUMNS
#undef X
#undef CHANNELS
