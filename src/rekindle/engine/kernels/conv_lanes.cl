/* Dense convolution on a GPU: y blocked by 4 channels (NC/4HW4), x so too or row-major.

   A work-group is 64 output pixels, one a lane, and TM output channels, which each lane sums in
   registers. The address of the weights depends on group ids only, so on GCN they travel through
   scalar registers: a multiply-add is one v_mac_f32 with a scalar operand, without local memory
   or barriers. Each lane has a pointer to its pixel, which for a tap in the padding points to
   zeros and stays there. Pixels are counted over all images; lanes past them compute the last
   one again and store nothing.

   Of a sum in S slices each work-group sums CS blocks of x's channels (the last what is left), and
   conv_sum adds the slices.

   Weights: (M / TM, KH, KW, blocks of C, XB c, TM m), zero past M and C.
   Global size: (pixels up to 64 n, M / TM, S).

   TM  output channels of a lane, a multiple of 4
   XB  channels of a block of x: 4, or 1 (row-major)
   PLAIN   1: 1 x 1, step 1, no padding: x is as large as y, and few scalars live in the loop
   GATED   1: what is convolved is x times `gate` (batch, blocks of XC, 4), a factor a channel and
           image, stored as x; PLAIN and XB 4 only
   SLICED  1: y is floats (S, batch, blocks of M, pixels, 4), no scales, bias or epilogue
   XT, WT, YT  how x, the weights and y are stored
   SCALES  1: sums are multiplied by `scales` (M) */
#include "_lane_weights.cl"

/* Adds `left` channels of x at `at`, a block `step` after the other. */
static inline void NAME(channels)(
    float *a, const __global WT *restrict k, const __global XT *restrict at,
#if GATED
    const __global XT *restrict gate,
#endif
    int step, int left)
{
  /* It runs once at least: tested in front, LLVM keeps a second copy of the sums. */
  do {
#if XB == 4
    float4 v = rk_load(4, XT, at);
#if GATED
    v *= rk_load(4, XT, gate);
    gate += 4;
#endif
    NAME(add)(a, k, v.x);
    NAME(add)(a, k + TM, v.y);
    /* Without a jump LLVM loads all weights at once, more than there are scalar registers. */
    if (TM < 32 || left > 2) {
      NAME(add)(a, k + 2 * TM, v.z);
      NAME(add)(a, k + 3 * TM, v.w);
    }
#else
    NAME(add)(a, k, rk1_load(XT, at, 0));
#endif
    at += step;
    k += XB * TM;
    left -= XB;
  } while (left > 0);
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(conv)(
    const __global XT *restrict x, const __global WT *restrict w,
#if GATED
    const __global XT *restrict gate,
#endif
#if !SLICED
    const __global float *restrict bias,
#endif
#if SCALES && !SLICED
    const __global float *restrict scales,
#endif
    int N, int M, int XC, int C, int CS, int MG, int OH, int OW,
#if !PLAIN
    int H, int W, int KH, int KW, int SH, int SW, int PH, int PW, int DH, int DW,
    const __global XT *restrict zeros,
#endif
    EPILOGUE_PARAMS __global YT *restrict y)
{
  const int panel = get_group_id(1), slice = get_group_id(2), m0 = panel * TM;
  const int pixels = OH * OW, CB = (C + XB - 1) / XB, first = slice * CS;
  const int channels = min(CS * XB, C - first * XB);
  const int mine = get_group_id(0) * 64 + get_local_id(0), every = min(mine, N * pixels - 1);
  const int n = N > 1 ? every / pixels : 0, p = every - n * pixels;
  float a[TM];
  #pragma unroll
  for (int i = 0; i < TM; i++) a[i] = 0.0f;
  /* x has XC blocks of channels; MG output channels read the C channels of their group. */
  const int block = m0 / MG * CB + first;
#if PLAIN
  NAME(channels)(a, w + (panel * CB + first) * XB * TM,
                 x + ((n * XC + block) * pixels + p) * XB,
#if GATED
                 gate + (n * XC + block) * XB,
#endif
                 pixels * XB, channels);
#else
  const int plane = H * W, y0 = p / OW * SH - PH, x0 = p % OW * SW - PW;
  const __global XT *image = x + (n * XC + block) * plane * XB;
  const __global WT *k = w + (panel * KH * KW * CB + first) * XB * TM;
  int ky = 0;
  do {
    int kx = 0;
    do {
      const int iy = y0 + ky * DH, ix = x0 + kx * DW;
      const int inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
      NAME(channels)(a, k, inside ? image + (iy * W + ix) * XB : zeros,
                     inside ? plane * XB : 0, channels);
      k += CB * XB * TM;
    } while (++kx < KW);
  } while (++ky < KH);
#endif
#include "_lane_sums.cl"
}
#undef WIDE
#undef WEIGHTS
