/* The pixels that a 1 x 1 convolution reads in the order in which conv_tiled's tiles read them.

   x is blocked by 16 channels; y is (batch, tiles, blocks of channels, P pixels, 16), where the
   last tile of an image is moved back, as in conv_tiled. A job is T tiles. Global size: (jobs, 1,
   batch).

   P    pixels of a tile
   XT   how x is stored; y is float, so that not every panel of outputs widens it again */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(pack)(
    const __global XT *restrict x, int CB, int H, int W, int OH, int OW, int SH, int SW, int T,
    __global float *restrict y)
{
  const int pixels = OH * OW, tiles = (pixels + P - 1) / P, plane = H * W * 16;
  const int n = get_global_id(2), first = get_global_id(0) * T, end = min(first + T, tiles);
  x += n * CB * plane;
  y += (n * tiles + first) * CB * P * 16;
  for (int t = first; t < end; t++) {
    const int p0 = min(t * P, pixels - P);
    int at[P];
    #pragma unroll
    for (int i = 0; i < P; i++) at[i] = ((p0 + i) / OW * SH * W + (p0 + i) % OW * SW) * 16;
    for (int cb = 0; cb < CB; cb++, y += P * 16)
      #pragma unroll
      for (int i = 0; i < P; i++)
        rk_store(16, float, rk_load(16, XT, x + cb * plane + at[i]), y + i * 16);
  }
}
