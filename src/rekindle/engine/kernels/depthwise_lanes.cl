/* Depthwise convolution on a GPU: one kernel a channel, x and y blocked by 4 channels.

   A lane is one output pixel of one block; a work-group is 64 of them. The taps of a row are
   loaded together before they are used, or each load would be waited for by itself. Weights and
   rows of taps are uniform over the work-group, so their addresses are scalar. A tap in the
   padding reads zeros; lanes past the image compute its last pixel again and store nothing.

   Weights: (blocks of C, KH, KW, 4), zero past C.
   Global size: (pixels up to 64 n, blocks of C, batch).

   KH, KW  the window
   XT, YT  how x and y are stored; the weights, few beside x, are float */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(depthwise)(
    const __global XT *restrict x, const __global float4 *restrict w,
    const __global float4 *restrict bias, const __global XT *restrict zeros, int C, int H,
    int W, int OH, int OW, int SH, int SW, int PH, int PW, int DH, int DW,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  const int block = get_group_id(1), plane = get_group_id(2) * get_num_groups(1) + block;
  const int mine = get_group_id(0) * 64 + get_local_id(0), p = min(mine, OH * OW - 1);
  const int y0 = p / OW * SH - PH, x0 = p % OW * SW - PW;
  x += plane * H * W * 4;
  w += block * KH * KW;
  float4 v = bias[block];
  #pragma unroll
  for (int ky = 0; ky < KH; ky++) {
    const int iy = y0 + ky * DH;
    float4 taps[KW];
    #pragma unroll
    for (int kx = 0; kx < KW; kx++) {
      const int ix = x0 + kx * DW;
      const int inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
      taps[kx] = rk_load(4, XT, inside ? x + (iy * W + ix) * 4 : zeros);
    }
    #pragma unroll
    for (int kx = 0; kx < KW; kx++) v += taps[kx] * w[ky * KW + kx];
  }
  if (mine >= OH * OW) return;
  const int at = (plane * OH * OW + p) * 4;
  EPILOGUE_READ(at)
  v = EPILOGUE;
  rk_store(4, YT, block * 4 + (int4)(0, 1, 2, 3) < C ? v : (float4)0.0f, y + at);
}
