/* Attention on a CPU: softmax(scale q k' + mask) v, the scores of BLOCK keys at a time.

   A work-item computes tiles of P queries of one head. For each block of keys: scores in registers
   from keys packed 16 side by side (attention_pack); the running maximum; powers, kept in a small
   array; then the weighted sum of values, whose register tile is P x G vectors. A new maximum
   scales down what was summed before. The last tile is moved back to overlap the one before it.

   q, v, y, mask: batch b, head h, row r begins at b * .B + h * .H + r * .R.
   Global size: (jobs, heads, batch); a job is T tiles.

   P, VW   queries of a tile, floats in a vector: 8 or 16
   D, DV   floats in a query and in a value, DV a multiple of VW
   MASK    0 or 1
   QT, VT, MT, YT  how q, v, the mask and y are stored
   NARROW  q is not stored as float: it is widened once for each tile
   F(f)    the name of the function f of vectors of VW */
#define BLOCK 64
#if VW == 16
#define V float16
#else
#define V float8
#endif
#define R (16 / VW)
#define G 2
#define LOAD(p) (*(const __global V *)(p))
#if NARROW
#define Q(i, d) narrow[i][d]
#else
#define Q(i, d) q[(p0 + (i)) * QR + (d)]
#endif

static inline float NAME(highest)(V v)
{
  union { V v; float s[VW]; } u;
  u.v = v;
  for (int n = VW / 2; n > 0; n /= 2)
    for (int l = 0; l < n; l++) u.s[l] = u.s[l] < u.s[l + n] ? u.s[l + n] : u.s[l];
  return u.s[0];
}

static inline float NAME(sum)(V v)
{
  union { V v; float s[VW]; } u;
  u.v = v;
  for (int n = VW / 2; n > 0; n /= 2)
    for (int l = 0; l < n; l++) u.s[l] += u.s[l + n];
  return u.s[0];
}

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(attend)(
    const __global QT *restrict q, const __global float *restrict panels,
    const __global VT *restrict v,
#if MASK
    const __global MT *restrict mask, int MB, int MH, int MR,
#endif
    int M, int N, int T, float scale, int QB, int QH, int QR, int VB, int VH, int VR, int YB,
    int YH, int YR, __global YT *restrict y)
{
  const int h = get_global_id(1), b = get_global_id(2), count = (N + 15) / 16;
  const int end = min(((int)get_global_id(0) + 1) * T, (M + P - 1) / P);
  q += b * QB + h * QH;
  v += b * VB + h * VH;
  y += b * YB + h * YH;
  panels += (b * (int)get_global_size(1) + h) * count * D * 16;
#if MASK
  mask += b * MB + h * MH;
#endif
  for (int t = get_global_id(0) * T; t < end; t++) {
    const int p0 = min(t * P, M - P);
    union { V v[P][BLOCK / VW]; float s[P][BLOCK]; } w;
    V o[P][DV / VW];
    float peak[P], total[P];
#if NARROW
    float narrow[P][D];
    for (int i = 0; i < P; i++)
      for (int d = 0; d < D; d++) narrow[i][d] = rk1_load(QT, q, (p0 + i) * QR + d);
#endif
    for (int i = 0; i < P; i++) {
      peak[i] = -INFINITY;
      total[i] = 0.0f;
      for (int d = 0; d < DV / VW; d++) o[i][d] = (V)0.0f;
    }
    for (int n0 = 0; n0 < N; n0 += BLOCK) {
      const int keys = min(BLOCK, N - n0), whole = (keys + 15) / 16;
      const __global float *k = panels + n0 * D;
      for (int p = 0; p < whole; p++) {
        V a[P][R];
        #pragma unroll
        for (int i = 0; i < P; i++)
          #pragma unroll
          for (int r = 0; r < R; r++) a[i][r] = (V)0.0f;
        #pragma unroll 2
        for (int d = 0; d < D; d++, k += 16) {
          V c[R];
          #pragma unroll
          for (int r = 0; r < R; r++) c[r] = LOAD(k + r * VW);
          #pragma unroll
          for (int i = 0; i < P; i++)
            #pragma unroll
            for (int r = 0; r < R; r++) a[i][r] += Q(i, d) * c[r];
        }
        #pragma unroll
        for (int i = 0; i < P; i++)
          #pragma unroll
          for (int r = 0; r < R; r++) w.v[i][p * R + r] = a[i][r] * scale;
      }
      for (int i = 0; i < P; i++) {
#if MASK
        const __global MT *row = mask + (p0 + i) * MR + n0;
        for (int n = 0; n < keys; n++) w.s[i][n] += rk1_load(MT, row, n);
#endif
        for (int n = keys; n < whole * 16; n++) w.s[i][n] = -INFINITY;
        V m = (V)peak[i];
        for (int j = 0; j < whole * R; j++) m = m < w.v[i][j] ? w.v[i][j] : m;
        /* While every score is minus infinity there is nothing to scale: 0 stands for the peak. */
        const float high = NAME(highest)(m), base = high == -INFINITY ? 0.0f : high;
        const V less = F(exp)((V)(peak[i] - base));
        V s = (V)0.0f;
        for (int j = 0; j < whole * R; j++) {
          w.v[i][j] = F(exp)(w.v[i][j] - base);
          s += w.v[i][j];
        }
        if (high != peak[i])
          for (int d = 0; d < DV / VW; d++) o[i][d] *= less;
        total[i] = total[i] * less.s0 + NAME(sum)(s);
        peak[i] = high;
      }
      for (int d = 0; d < DV / VW; d += G) {
        const int second = min(d + 1, DV / VW - 1) - d;
        const __global VT *c = v + n0 * VR + d * VW;
        V a[P][G];
        #pragma unroll
        for (int i = 0; i < P; i++) {
          a[i][0] = o[i][d];
          a[i][1] = o[i][d + second];
        }
        for (int n = 0; n < keys; n++, c += VR) {
          const V v0 = rk_load_any(VW, VT, c), v1 = rk_load_any(VW, VT, c + second * VW);
          #pragma unroll
          for (int i = 0; i < P; i++) {
            a[i][0] += w.s[i][n] * v0;
            a[i][1] += w.s[i][n] * v1;
          }
        }
        #pragma unroll
        for (int i = 0; i < P; i++) {
          o[i][d + second] = a[i][1];
          o[i][d] = a[i][0];
        }
      }
    }
    for (int i = 0; i < P; i++)
      for (int d = 0; d < DV / VW; d++)
        rk_store_any(VW, YT, o[i][d] / total[i], y + (p0 + i) * YR + d * VW);
  }
}
#undef BLOCK
#undef V
#undef R
#undef G
#undef LOAD
#undef Q
