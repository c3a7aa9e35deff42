/* Dense convolution on a GPU: y blocked by 4 channels (NC/4HW4), x so too or row-major.

   A work-group is 64 output pixels, one a lane, and TM output channels, which each lane sums in
   registers. The address of the weights depends on group ids only, so on GCN they travel through
   scalar registers: a multiply-add is one v_mac_f32 with a scalar operand, without local memory
   or barriers. Each lane has a pointer to its pixel, which for a tap in the padding points to
   zeros and stays there. Lanes past the image compute its last pixel again and store nothing.

   Weights: (M / TM, KH, KW, blocks of C, XB c, TM m), zero past M and C.
   Global size: (pixels up to 64 n, M / TM, batch).

   TM  output channels of a lane, a multiple of 4
   XB  channels of a block of x: 4, or 1 (row-major)
   XT, WT, YT  how x, the weights and y are stored
   SCALES  1: sums are multiplied by `scales` (M) */
/* Weights are loaded as vectors: single loads in a loop LLVM does not merge for the scalar unit. */
#if TM % 16 == 0
#define WIDE 16
#define WEIGHTS float16
#elif TM == 8
#define WIDE 8
#define WEIGHTS float8
#else
#define WIDE 4
#define WEIGHTS float4
#endif

/* Adds one input channel of value s, with its TM weights at k. */
static inline void NAME(add)(float *a, const __global WT *restrict k, float s)
{
  #pragma unroll
  for (int i = 0; i < TM; i += WIDE) {
    union { WEIGHTS all; float each[WIDE]; } w;
    w.all = rk_load(WIDE, WT, k + i);
    #pragma unroll
    for (int j = 0; j < WIDE; j++) a[i + j] += w.each[j] * s;
  }
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(conv)(
    const __global XT *restrict x, const __global WT *restrict w,
    const __global float *restrict bias, const __global XT *restrict zeros,
#if SCALES
    const __global float *restrict scales,
#endif
    int M, int XC,
    int CB, int MG, int H, int W, int OH, int OW, int KH, int KW, int SH, int SW, int PH, int PW,
    int DH, int DW, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int panel = get_group_id(1), n = get_group_id(2), m0 = panel * TM;
  const int pixels = OH * OW, plane = H * W;
  const int mine = get_group_id(0) * 64 + get_local_id(0), p = min(mine, pixels - 1);
  const int y0 = p / OW * SH - PH, x0 = p % OW * SW - PW;
  /* x has XC blocks of channels; MG output channels read the CB blocks of their group. */
  const __global XT *image = x + (n * XC + m0 / MG * CB) * plane * XB;
  const __global WT *k = w + panel * KH * KW * CB * XB * TM;
  float a[TM];
  #pragma unroll
  for (int i = 0; i < TM; i++) a[i] = 0.0f;
  /* Each loop runs once at least: tested in front, LLVM keeps a second copy of the sums. */
  int ky = 0;
  do {
    int kx = 0;
    do {
      const int iy = y0 + ky * DH, ix = x0 + kx * DW;
      const int inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
      const __global XT *at = inside ? image + (iy * W + ix) * XB : zeros;
      const int step = inside ? plane * XB : 0;
      int cb = 0;
      do {
#if XB == 4
        const float4 v = rk_load(4, XT, at);
        NAME(add)(a, k, v.x);
        NAME(add)(a, k + TM, v.y);
        NAME(add)(a, k + 2 * TM, v.z);
        NAME(add)(a, k + 3 * TM, v.w);
#else
        NAME(add)(a, k, rk1_load(XT, at, 0));
#endif
        at += step;
        k += XB * TM;
      } while (++cb < CB);
    } while (++kx < KW);
  } while (++ky < KH);
  if (mine >= pixels) return;
  const int blocks = (M + 3) / 4;
  #pragma unroll
  for (int i = 0; i < TM; i += 4) {
    const int m = m0 + i;
    if (m < M) {
      const int at = ((n * blocks + m / 4) * pixels + p) * 4;
      float4 v = (float4)(a[i], a[i + 1], a[i + 2], a[i + 3]);
#if SCALES
      v *= rk_load(4, float, scales + m);
#endif
      v += rk_load(4, float, bias + m);
      EPILOGUE_READ(at)
      v = EPILOGUE;
      rk_store(4, YT, (int4)(m, m + 1, m + 2, m + 3) < M ? v : (float4)0.0f, y + at);
    }
  }
}
#undef WIDE
#undef WEIGHTS
