/* The second half of a convolution in slices: adds them, in their order, and what follows a sum.

   A work-item is one pixel of one block of 4 channels. x: floats (S, batch, blocks of M, pixels, 4),
   of `plane` pixels each. Global size: (pixels up to 64 n, blocks of M, batch).

   SUMS    1: what this launch promises of its instructions
   SCALES  1: sums are multiplied by `scales` (M)
   YT      how y is stored */
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(sum)(
    const __global float *restrict x, const __global float *restrict bias,
#if SCALES
    const __global float *restrict scales,
#endif
    int S, int M, int plane, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int p = get_global_id(0), block = get_group_id(1), m = block * 4;
  if (p >= plane) return;
  const int blocks = get_num_groups(1), n = get_group_id(2);
  const int slice = get_num_groups(2) * blocks * plane * 4;
  const int at = ((n * blocks + block) * plane + p) * 4;
  const __global float *from = x + at;
  float4 v = rk_load(4, float, from);
  for (int s = 1; s < S; s++) v += rk_load(4, float, from += slice);
#if SCALES
  v *= rk_load(4, float, scales + m);
#endif
  v += rk_load(4, float, bias + m);
  EPILOGUE_READ(at)
  v = EPILOGUE;
  rk_store(4, YT, (int4)(m, m + 1, m + 2, m + 3) < M ? v : (float4)0.0f, y + at);
}
