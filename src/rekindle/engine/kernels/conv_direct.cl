/* Convolution by its definition: one work-item, one output element. Always correct, not fast:
   for 1-D and 3-D, for groups that cut through channel blocks, for weights known only at run
   time, and to move between layouts.

   Global size: (output positions, channels of y with padding, batch). Every size is a run-time
   integer, so that all layers of one epilogue share one program. Sizes of a spatial rank below 3
   are 1 in front.

   XB, YB   channel block of x and y, 0: row-major
   BIAS     the bias is read
   XT, WT, BT, YT  how x, the weights, the bias and y are stored */
#if XB
#define X_AT(n, c) ((((n) * ((C + XB - 1) / XB) + (c) / XB) * D * H * W) * XB + (c) % XB)
#define X_STEP XB
#else
#define X_AT(n, c) (((n) * C + (c)) * D * H * W)
#define X_STEP 1
#endif
#if YB
#define Y_AT(n, m, s, size) ((((n) * ((M + YB - 1) / YB) + (m) / YB) * (size) + (s)) * YB + (m) % YB)
#else
#define Y_AT(n, m, s, size) (((n) * M + (m)) * (size) + (s))
#endif

__kernel void NAME(conv)(
    const __global XT *restrict x, const __global WT *restrict w,
#if BIAS
    const __global BT *restrict bias,
#endif
    int C, int M, int CG, int MG, int D, int H, int W, int KD, int KH, int KW, int OD, int OH,
    int OW, int SD, int SH, int SW, int PD, int PH, int PW, int LD, int LH, int LW,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  const int s = get_global_id(0), m = get_global_id(1), n = get_global_id(2);
  const int at = Y_AT(n, m, s, OD * OH * OW);
  if (m >= M) {
    rk1_store(YT, y, at, 0.0f);
    return;
  }
  const int x0 = s % OW * SW - PW, y0 = s / OW % OH * SH - PH, z0 = s / OW / OH * SD - PD;
  const __global WT *k = w + m * CG * KD * KH * KW;
  float v = 0.0f;
  for (int c = 0; c < CG; c++) {
    const __global XT *plane = x + X_AT(n, m / MG * CG + c);
    for (int kz = 0; kz < KD; kz++)
      for (int ky = 0; ky < KH; ky++)
        for (int kx = 0; kx < KW; kx++, k++) {
          const int iz = z0 + kz * LD, iy = y0 + ky * LH, ix = x0 + kx * LW;
          if (iz >= 0 && iz < D && iy >= 0 && iy < H && ix >= 0 && ix < W)
            v += rk1_load(XT, plane, ((iz * H + iy) * W + ix) * X_STEP) * rk1_load(WT, k, 0);
        }
  }
#if BIAS
  v += rk1_load(BT, bias, m);
#endif
  EPILOGUE_READ(at)
  rk1_store(YT, y, at, EPILOGUE);
}
#undef X_AT
#undef X_STEP
#undef Y_AT
