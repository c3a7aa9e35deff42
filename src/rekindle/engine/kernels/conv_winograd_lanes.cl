/* Convolution by rows of filters of 3 on a GPU, by Winograd's F(4, 3) along the row: x and y blocked
   by 4 channels (NC/4HW4).

   A work-group is 64 tiles of 4 output pixels side by side, one a lane, and TM output channels. Of
   each row of filters and each channel a lane transforms 6 pixels of x into 6 points (12
   instructions), which take 6 TM multiply-adds where the plain sum takes 12 TM. Rows and channels
   are summed as points; the 4 pixels are made of them once, at the end. As in conv_lanes the
   address of the weights depends on group ids only, so on GCN they travel through scalar registers.
   Each of a lane's 6 columns has its own pointer, which in the padding stays at zeros: selecting
   values would take as many instructions again as moving the pointers does.

   Of a sum in S slices each work-group sums CS blocks of x's channels (the last what is left), and
   conv_sum adds the slices: making pixels of points is linear.

   Weights: (M / TM, KH, blocks of C, 4 c, 6 points, TM m), zero past M and C.
   Global size: (tiles of all images up to 64 n, M / TM, S).

   TM  output channels of a lane, a multiple of 4
   SLICED  1: y is floats (S, batch, blocks of M, pixels, 4), without bias or epilogue
   XT, YT  how x and y are stored; the weights are float */
#define POINTS 6
#define WIDE 8

/* t = B^T d, with no constants but those that instructions hold. */
#define TRANSFORM(t, d0, d1, d2, d3, d4, d5) { \
  const float p = d4 - 4.0f * d2, q = d3 - 4.0f * d1, u = d4 - d2, w = d3 - d1; \
  t[0] = 4.0f * (d0 - d2) + u; \
  t[1] = p + q; t[2] = p - q; t[3] = u + 2.0f * w; t[4] = u - 2.0f * w; \
  t[5] = (d5 - d3) - 4.0f * w; }

/* Adds the products of 6 points of one channel with their weights at k. */
static inline void NAME(add)(float *a, const __global float *restrict k, const float *t)
{
  #pragma unroll
  for (int i = 0; i < POINTS * TM; i += WIDE) {
    union { float8 all; float each[WIDE]; } w;
    w.all = rk_load(WIDE, float, k + i);
    #pragma unroll
    for (int j = 0; j < WIDE; j++) a[i + j] += w.each[j] * t[(i + j) / TM];
  }
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(conv)(
    const __global XT *restrict x, const __global float *restrict w,
#if !SLICED
    const __global float *restrict bias,
#endif
    const __global XT *restrict zeros,
    int N, int M, int C, int CS, int H, int W, int OH, int OW, int TX, int KH, int SH, int PH,
    int PW, int DH, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int panel = get_group_id(1), slice = get_group_id(2), m0 = panel * TM;
  const int first = slice * CS, channels = min(CS * 4, C - first * 4), CB = (C + 3) / 4;
  const int plane = H * W, pixels = OH * OW;
  const int mine = get_group_id(0) * 64 + get_local_id(0), tile = min(mine, N * OH * TX - 1);
  const int row = tile / TX, x0 = (tile - row * TX) * 4, n = row / OH, y0 = row - n * OH;
  const __global XT *image = x + (n * CB + first) * plane * 4;
  const __global float *k = w + (panel * KH * CB + first) * 4 * POINTS * TM;
  float a[POINTS * TM];
  #pragma unroll
  for (int i = 0; i < POINTS * TM; i++) a[i] = 0.0f;
  int ky = 0;
  do {
    const int iy = y0 * SH - PH + ky * DH;
    const __global XT *at[POINTS];
    uint step[POINTS];
    #pragma unroll
    for (int i = 0; i < POINTS; i++) {
      const int ix = x0 - PW + i, inside = iy >= 0 && iy < H && ix >= 0 && ix < W;
      at[i] = inside ? image + (iy * W + ix) * 4 : zeros;
      step[i] = inside ? plane * 4 : 0;
    }
    int left = channels;
    do {
      float4 d[POINTS];
      float t[POINTS];
      #pragma unroll
      for (int i = 0; i < POINTS; i++) {
        d[i] = rk_load(4, XT, at[i]);
        at[i] += step[i];
      }
      TRANSFORM(t, d[0].x, d[1].x, d[2].x, d[3].x, d[4].x, d[5].x)
      NAME(add)(a, k, t);
      TRANSFORM(t, d[0].y, d[1].y, d[2].y, d[3].y, d[4].y, d[5].y)
      NAME(add)(a, k + POINTS * TM, t);
      /* Without a jump LLVM loads all weights at once, more than there are scalar registers. */
      if (left > 2) {
        TRANSFORM(t, d[0].z, d[1].z, d[2].z, d[3].z, d[4].z, d[5].z)
        NAME(add)(a, k + 2 * POINTS * TM, t);
        TRANSFORM(t, d[0].w, d[1].w, d[2].w, d[3].w, d[4].w, d[5].w)
        NAME(add)(a, k + 3 * POINTS * TM, t);
      }
      k += 4 * POINTS * TM;
      left -= 4;
    } while (left > 0);
    k += (CB - (channels + 3) / 4) * 4 * POINTS * TM;
  } while (++ky < KH);
  if (mine >= N * OH * TX) return;
  const int blocks = (M + 3) / 4;
#if SLICED
  y += slice * N * blocks * pixels * 4;
#endif
  #pragma unroll
  for (int i = 0; i < TM; i += 4) {
    const int m = m0 + i;
    if (m < M) {
      float4 p[POINTS];
      #pragma unroll
      for (int j = 0; j < POINTS; j++) {
        const int from = j * TM + i;
        p[j] = (float4)(a[from], a[from + 1], a[from + 2], a[from + 3]);
      }
      const float4 s = p[1] + p[2], d = p[1] - p[2], u = p[3] + p[4], e = p[3] - p[4];
      const float4 out[4] = {p[0] + s + u, d + 2.0f * e, s + 4.0f * u, d + 8.0f * e + p[5]};
      #pragma unroll
      for (int j = 0; j < 4; j++)
        if (x0 + j < OW) {
          const int at = ((n * blocks + m / 4) * pixels + y0 * OW + x0 + j) * 4;
          float4 v = out[j];
#if SLICED
          rk_store(4, YT, v, y + at);
#else
          v += rk_load(4, float, bias + m);
          EPILOGUE_READ(at)
          v = EPILOGUE;
          rk_store(4, YT, (int4)(m, m + 1, m + 2, m + 3) < M ? v : (float4)0.0f, y + at);
#endif
        }
    }
  }
}
#undef POINTS
#undef WIDE
#undef TRANSFORM
