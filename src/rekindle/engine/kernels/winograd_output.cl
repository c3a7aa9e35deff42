/* Winograd convolution, stage 3 of 3: points back to pixels, bias and epilogue.

   A work-item takes a row of tiles of one block of 16 output channels: m becomes A^T m A, TILE x
   TILE pixels of y, of which those outside the image are dropped.

   m: (E * E, blocks of M, tiles of all images, 16), E = TILE + 2.
   Global size: (rows of tiles, blocks of M, batch).

   TILE  4 or 2
   VW    floats in a vector: 8 or 16
   YT    how y is stored */
#if VW == 16
#define V float16
#define I int16
#define LANES (I)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#else
#define V float8
#define I int8
#define LANES (I)(0, 1, 2, 3, 4, 5, 6, 7)
#endif
#define LOAD(p) (*(const __global V *)(p))

/* y = A^T m */
#if TILE == 4
#define E 6
#define TRANSFORM(y, m) { \
  const V s = m[1] + m[2], q = m[1] - m[2], u = m[3] + m[4], w = m[3] - m[4]; \
  y[0] = m[0] + s + u; y[1] = q + 2.0f * w; y[2] = s + 4.0f * u; y[3] = q + 8.0f * w + m[5]; }
#else
#define E 4
#define TRANSFORM(y, m) { y[0] = m[0] + m[1] + m[2]; y[1] = m[1] - m[2] - m[3]; }
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(transform)(
    const __global float *restrict m, const __global float *restrict bias, int M, int OH, int OW,
    int TX, EPILOGUE_PARAMS __global YT *restrict y)
{
  const int ty = get_global_id(0), mb = get_global_id(1), n = get_global_id(2);
  const int tiles = TX * get_global_size(0) * get_global_size(2);
  const int point = tiles * get_global_size(1) * 16;
  const int high = min(TILE, OH - ty * TILE);
  const int first = ((n * (int)get_global_size(1) + mb) * OH + ty * TILE) * OW * 16;
  m += (mb * tiles + (n * (int)get_global_size(0) + ty) * TX) * 16;
  for (int tx = 0; tx < TX; tx++, m += 16)
    for (int part = 0; part < 16; part += VW) {
      V rows[TILE * E];
      #pragma unroll
      for (int j = 0; j < E; j++) {
        V t[E], column[TILE];
        #pragma unroll
        for (int i = 0; i < E; i++) t[i] = LOAD(m + (i * E + j) * point + part);
        TRANSFORM(column, t)
        #pragma unroll
        for (int i = 0; i < TILE; i++) rows[i * E + j] = column[i];
      }
      const I real = LANES + (mb * 16 + part) < M;
      const V b = LOAD(bias + mb * 16 + part);
      const int wide = min(TILE, OW - tx * TILE);
      #pragma unroll
      for (int i = 0; i < TILE; i++) {
        V t[TILE];
        TRANSFORM(t, (rows + i * E))
        #pragma unroll
        for (int j = 0; j < TILE; j++)
          if (i < high && j < wide) {
            const int at = first + (i * OW + tx * TILE + j) * 16 + part;
            V v = t[j] + b;
            EPILOGUE_READ(at)
            v = EPILOGUE;
            rk_store(VW, YT, real ? v : (V)0.0f, y + at);
          }
      }
    }
}
#undef V
#undef I
#undef LANES
#undef LOAD
#undef E
#undef TRANSFORM
