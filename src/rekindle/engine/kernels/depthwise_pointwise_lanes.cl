/* Depthwise convolution and the product of channels that follows, on a GPU, with nothing stored
   between: x and y blocked by 4 channels (NC/4HW4).

   As in conv_lanes, a work-group is 64 output pixels, one a lane, and TM output channels, which
   each lane sums in registers; weights of both convolutions travel through scalar registers. A
   lane makes the depthwise sums of its pixel for one block of 4 channels after the other, from
   taps that were loaded together a block ahead, and multiplies them into the TM sums while they
   are still in registers. With several panels of TM channels each one makes the depthwise sums
   anew. A tap in the padding reads zeros; lanes past the last pixel compute that one again and
   store nothing.

   Of a sum in S slices each work-group sums CS blocks of channels (the last what is left), and
   conv_sum adds the slices.

   Weights: of the depthwise part (blocks of C, KH, KW, 4), of the product
   (M / TM, blocks of C, 4 c, TM m), zero past M and C.
   Global size: (pixels up to 64 n, M / TM, S).

   KH, KW  the window
   TM      output channels of a lane, a multiple of 4
   RAGGED  1: C is not a multiple of 4
   SLICED  1: y is floats (S, batch, blocks of M, pixels, 4), no scales, bias or epilogue
   XT, WT, YT  how x, the weights of the product and y are stored; the taps are float
   SCALES  1: sums are multiplied by `scales` (M) */
#include "_lane_weights.cl"

/* Where a lane's taps lie in a block of channels, in bytes: 32 bits without a sign, so that they
   take a register each all through the loop; and which of them are in the padding. */
typedef struct {
  uint offset[KH * KW];
  int inside[KH * KW];
} NAME(window);

static inline void NAME(load)(
    float4 *taps, const __global XT *restrict image, const NAME(window) *at,
    const __global XT *restrict zeros)
{
  const __global uchar *first = (const __global uchar *)image;
  #pragma unroll
  for (int i = 0; i < KH * KW; i++)
    taps[i] = rk_load(4, XT, at->inside[i] ? (const __global XT *)(first + at->offset[i]) : zeros);
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(pair)(
    const __global XT *restrict x, const __global float4 *restrict depthwise,
    const __global float4 *restrict inner, const __global XT *restrict zeros,
    const __global WT *restrict w,
#if !SLICED
    const __global float *restrict bias,
#endif
#if SCALES && !SLICED
    const __global float *restrict scales,
#endif
    int N, int C, int M, int CS, int H, int W, int OH, int OW, int SH, int SW, int PH, int PW,
    int DH, int DW, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int panel = get_group_id(1), slice = get_group_id(2), m0 = panel * TM;
  const int pixels = OH * OW, CB = (C + 3) / 4, plane = H * W * 4;
  const int mine = get_group_id(0) * 64 + get_local_id(0), every = min(mine, N * pixels - 1);
  const int n = N > 1 ? every / pixels : 0, p = every - n * pixels;
  const int y0 = p / OW * SH - PH, x0 = p % OW * SW - PW;
  NAME(window) at;
  #pragma unroll
  for (int i = 0; i < KH * KW; i++) {
    const int iy = y0 + i / KW * DH, ix = x0 + i % KW * DW;
    at.inside[i] = iy >= 0 && iy < H && ix >= 0 && ix < W;
    at.offset[i] = (iy * W + ix) * 4 * (int)sizeof(XT);
  }
  int block = slice * CS;
  const int end = min(block + CS, CB);
  float a[TM];
  #pragma unroll
  for (int i = 0; i < TM; i++) a[i] = 0.0f;
  const __global XT *image = x + n * CB * plane;
  float4 taps[KH * KW];
  NAME(load)(taps, image + block * plane, &at, zeros);
  /* It runs once at least: tested in front, LLVM keeps a second copy of the sums. */
  do {
    const __global float4 *d = depthwise + block * (KH * KW);
    const __global WT *k = w + (panel * CB + block) * 4 * TM;
    float4 v = inner[block];
    #pragma unroll
    for (int i = 0; i < KH * KW; i++) v += taps[i] * d[i];
    v = MIDDLE;
#if RAGGED
    /* What the epilogue makes of channels past C must not meet the zeros of their weights. */
    v = block * 4 + (int4)(0, 1, 2, 3) < C ? v : (float4)0.0f;
#endif
    block++;
    /* The next taps are under way while these are multiplied; behind the last block it waits. */
    NAME(load)(taps, image + min(block, end - 1) * plane, &at, zeros);
    NAME(add)(a, k, v.x);
    NAME(add)(a, k + TM, v.y);
    NAME(add)(a, k + 2 * TM, v.z);
    NAME(add)(a, k + 3 * TM, v.w);
  } while (block < end);
#include "_lane_sums.cl"
}
#undef WIDE
#undef WEIGHTS
