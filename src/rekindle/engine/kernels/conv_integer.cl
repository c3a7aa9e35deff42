/* Convolution of bytes, summed exactly in 32 bits: y = conv(x - zx, w - zw); the padding counts
   as zx. A work-item has WIDE neighbouring positions of one filter's result along the last axis.

   ZX, ZW: 0 no zero point, 1 one for all, 2 one a filter. Sizes of a spatial rank below 3 are 1 in
   front. Global size: (tiles of positions, filters, batch). */
__kernel void NAME(conv)(const __global TX *restrict x, const __global TW *restrict w,
#if ZX
                         const __global TX *restrict zx,
#endif
#if ZW
                         const __global TW *restrict zw,
#endif
                         int C, int M, int CG, int MG, int D, int H, int W, int KD, int KH, int KW,
                         int OD, int OH, int OW, int SD, int SH, int SW, int PD, int PH, int PW,
                         int LD, int LH, int LW, __global int *restrict y) {
  const int tiles = (OW + WIDE - 1) / WIDE, tile = get_global_id(0);
  const int m = get_global_id(1), n = get_global_id(2);
  const int ox = tile % tiles * WIDE, oy = tile / tiles % OH, oz = tile / tiles / OH;
  const int wide = min(WIDE, OW - ox);
  int from_x = 0, from_w = 0;
#if ZX
  from_x = zx[0];
#endif
#if ZW == 1
  from_w = zw[0];
#elif ZW == 2
  from_w = zw[m];
#endif
  int sums[WIDE];
  for (int i = 0; i < WIDE; i++) sums[i] = 0;
  const __global TW *k = w + m * CG * KD * KH * KW;
  for (int c = 0; c < CG; c++) {
    const __global TX *plane = x + (n * C + m / MG * CG + c) * D * H * W;
    for (int kz = 0; kz < KD; kz++) {
      const int iz = oz * SD - PD + kz * LD;
      for (int ky = 0; ky < KH; ky++) {
        const int iy = oy * SH - PH + ky * LH;
        if (iz < 0 || iz >= D || iy < 0 || iy >= H) {
          k += KW;
          continue;
        }
        const __global TX *line = plane + (iz * H + iy) * W;
        for (int kx = 0; kx < KW; kx++, k++) {
          const int v = (int)*k - from_w, ix = ox * SW - PW + kx * LW;
          if (ix >= 0 && ix + (WIDE - 1) * SW < W) {
            for (int i = 0; i < WIDE; i++) sums[i] += ((int)line[ix + i * SW] - from_x) * v;
          } else {
            for (int i = 0; i < wide; i++) {
              const int at = ix + i * SW;
              if (at >= 0 && at < W) sums[i] += ((int)line[at] - from_x) * v;
            }
          }
        }
      }
    }
  }
  y += ((n * M + m) * OD * OH + oz * OH + oy) * OW + ox;
  for (int i = 0; i < wide; i++) y[i] = sums[i];
}
