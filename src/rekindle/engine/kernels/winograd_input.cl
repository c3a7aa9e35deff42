/* Winograd convolution, stage 1 of 3: tiles of x into the transform's points (Lavin and Gray 2016).

   A work-item takes a row of tiles of one block of 16 channels. A tile is E x E pixels of x, E =
   TILE + 2, its neighbour begins TILE pixels on. d becomes B^T d B; each of the E * E points goes
   to a matrix of its own, so that stage 2 is E * E plain products.

   v: (E * E, blocks of C, tiles of all images, 16). Taps in the padding read zeros.
   Global size: (rows of tiles, blocks of C, batch).

   TILE  4 or 2: output pixels of a tile's side
   VW    floats in a vector: 8 or 16
   XT    how x is stored */
#if VW == 16
#define V float16
#else
#define V float8
#endif

/* t = B^T d. */
#if TILE == 4
#define E 6
#define TRANSFORM(t, d) { \
  const V p = d[4] - 4.0f * d[2], q = d[3] - 4.0f * d[1]; \
  const V u = d[4] - d[2], w = 2.0f * (d[3] - d[1]); \
  t[0] = 4.0f * d[0] - 5.0f * d[2] + d[4]; \
  t[1] = p + q; t[2] = p - q; t[3] = u + w; t[4] = u - w; \
  t[5] = 4.0f * d[1] - 5.0f * d[3] + d[5]; }
#else
#define E 4
#define TRANSFORM(t, d) { \
  t[0] = d[0] - d[2]; t[1] = d[1] + d[2]; t[2] = d[2] - d[1]; t[3] = d[1] - d[3]; }
#endif

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(transform)(
    const __global XT *restrict x, const __global XT *restrict zeros, int H, int W, int TX,
    int PH, int PW, __global float *restrict v)
{
  const int ty = get_global_id(0), cb = get_global_id(1), n = get_global_id(2);
  const int tiles = TX * get_global_size(0) * get_global_size(2);
  const int point = tiles * get_global_size(1) * 16;
  x += (n * (int)get_global_size(1) + cb) * H * W * 16;
  v += (cb * tiles + (n * (int)get_global_size(0) + ty) * TX) * 16;
  for (int tx = 0; tx < TX; tx++, v += 16)
    for (int part = 0; part < 16; part += VW) {
      V rows[E * E];
      #pragma unroll
      for (int j = 0; j < E; j++) {
        const int ix = tx * TILE - PW + j;
        V d[E];
        #pragma unroll
        for (int i = 0; i < E; i++) {
          const int iy = ty * TILE - PH + i;
          const int inside = (uint)iy < (uint)H && (uint)ix < (uint)W;
          d[i] = rk_load(VW, XT, (inside ? x + (iy * W + ix) * 16 : zeros) + part);
        }
        V t[E];
        TRANSFORM(t, d)
        #pragma unroll
        for (int i = 0; i < E; i++) rows[i * E + j] = t[i];
      }
      #pragma unroll
      for (int i = 0; i < E; i++) {
        V t[E];
        TRANSFORM(t, (rows + i * E))
        #pragma unroll
        for (int j = 0; j < E; j++) *(__global V *)(v + (i * E + j) * point + part) = t[j];
      }
    }
}
#undef V
#undef E
#undef TRANSFORM
