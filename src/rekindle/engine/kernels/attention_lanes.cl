/* Attention on a GPU: a work-group is 64 queries of one head, one a lane.

   The addresses of keys and values depend on group ids only, so on GCN their rows travel through
   scalar registers: a multiply-add is one v_mac_f32 with a scalar operand, without local memory
   or a step across lanes. BK keys are scored at a time; a lane has their powers and the weighted
   sum of values in registers, the sum scaled down whenever its maximum grows (flash attention).
   What a lane reads of its query again for each BK keys, it puts first, scaled, where 64 lanes
   read neighbouring vectors: into `rows`, each lane its own.

   The last BK keys may begin among those already done, which then weigh nothing (0 times an
   infinite value is NaN there, too). Lanes past the queries compute the last one again and store
   nothing. q, k, v, y, mask: batch b, head h, row r begins at b * .B + h * .H + r * .R.
   Where heads and queries are few, the keys are cut into S slices of KS each: a work-group leaves
   its sum of values in `sums`, (S, Z, heads, queries, PART), and the highest score and the sum of
   powers in `totals`, (S, Z, heads, queries, 2), of which attention_sum makes y; Z is batch * DV /
   PART. Global size: (queries up to 64 n, heads, Z * S).

   D, DV    floats in a query or key, and in a value: multiples of 4
   PART     floats of a value that a work-group sums: a divisor of DV, multiple of 4
   KR, VR   steps between rows, known here so that each row is a constant offset
   BK       keys scored at a time, not more than there are
   MASK     0 none, 1 a row for each query, 2 one row for all queries of a head
   SLICED   1: keys are cut into slices, KS a multiple of BK
   QT, MT, YT  how q, the mask and y are stored; k and v are float
   NATIVE   1: native_exp2 is exact to an ulp and right for NaN and infinity (v_exp_f32) */
#if D % 8 == 0
#define KEY_WIDE 8
#define KEY float8
#else
#define KEY_WIDE 4
#define KEY float4
#endif
#if PART % 8 == 0
#define VALUE_WIDE 8
#define VALUE float8
#else
#define VALUE_WIDE 4
#define VALUE float4
#endif
#if NATIVE
#define UNIT 1.44269504f
#define POWER(x) native_exp2(x)
#else
#define UNIT 1.0f
#define POWER(x) rk1_exp(x)
#endif

/* p += q k' of BK keys, the lane's query in `rows`. */
static inline void NAME(score)(
    float *p, const __global float4 *rows, const __global float *restrict k)
{
  for (int d = 0; d < D; d += KEY_WIDE) {
    union { float4 quarters[KEY_WIDE / 4]; float each[KEY_WIDE]; } x;
    #pragma unroll
    for (int i = 0; i < KEY_WIDE / 4; i++) x.quarters[i] = rows[(d / 4 + i) * 64];
    #pragma unroll
    for (int b = 0; b < BK; b++) {
      union { KEY all; float each[KEY_WIDE]; } w;
      w.all = rk_load_any(KEY_WIDE, float, k + b * KR + d);
      #pragma unroll
      for (int i = 0; i < KEY_WIDE; i++) p[b] += w.each[i] * x.each[i];
    }
  }
}

/* o += p v of BK values. */
static inline void NAME(weigh)(float *o, const float *p, const __global float *restrict v)
{
  #pragma unroll
  for (int b = 0; b < BK; b++)
    #pragma unroll
    for (int d = 0; d < PART; d += VALUE_WIDE) {
      union { VALUE all; float each[VALUE_WIDE]; } w;
      w.all = rk_load_any(VALUE_WIDE, float, v + b * VR + d);
      #pragma unroll
      for (int i = 0; i < VALUE_WIDE; i++) o[d + i] += w.each[i] * p[b];
    }
}

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(attend)(
    const __global QT *restrict q, const __global float *restrict k,
    const __global float *restrict v,
#if MASK
    const __global MT *restrict mask, int MB, int MH, int MR,
#endif
#if SLICED
    int Z, int KS,
#endif
    int H, int M, int N, float scale, int QB, int QH, int QR, int KB, int KH, int VB, int VH, int YB,
    int YH, int YR, __global float4 *restrict rows,
#if SLICED
    __global float *restrict sums, __global float *restrict totals)
#else
    __global YT *restrict y)
#endif
{
#if SLICED
  const int slice = get_group_id(2) / Z, z = get_group_id(2) % Z;
  const int start = slice * KS, end = min(start + KS, N);
#else
  const int z = get_group_id(2), start = 0, end = N;
#endif
  const int part = z % (DV / PART), batch = z / (DV / PART);
  const int h = get_group_id(1), mine = get_group_id(0) * 64 + get_local_id(0);
  const int m = min(mine, M - 1);
  const int group = get_group_id(0) + (M + 63) / 64 * (h + H * get_group_id(2));
  rows += group * (D / 4) * 64 + get_local_id(0);
  k += batch * KB + h * KH;
  v += batch * VB + h * VH + part * PART;
#if MASK
  mask += batch * MB + h * MH + (MASK == 1 ? m * MR : 0);
#endif
  const __global QT *query = q + batch * QB + h * QH + m * QR;
  for (int d = 0; d < D / 4; d++)
    rows[d * 64] = rk_load_any(4, QT, query + d * 4) * (scale * UNIT);
  float o[PART], peak = -INFINITY, total = 0.0f;
  #pragma unroll
  for (int d = 0; d < PART; d++) o[d] = 0.0f;
  int done = start;
  do {
    const int n = min(done, N - BK);
    float p[BK], high = peak;
    #pragma unroll
    for (int b = 0; b < BK; b++) p[b] = 0.0f;
    NAME(score)(p, rows, k + n * KR);
#if MASK
    #pragma unroll
    for (int b = 0; b < BK; b++) p[b] += rk1_load(MT, mask, n + b) * UNIT;
#endif
    if (n < done)
      #pragma unroll
      for (int b = 0; b < BK; b++) p[b] = n + b < done ? -INFINITY : p[b];
    /* fmax passes over NaN, which the powers below bring back. */
    #pragma unroll
    for (int b = 0; b < BK; b++) high = fmax(high, p[b]);
    /* While every score is minus infinity there is nothing to scale: 0 stands for the peak. */
    const float base = high == -INFINITY ? 0.0f : high;
    if (high > peak) {
      const float less = POWER(peak - base);
      total *= less;
      #pragma unroll
      for (int d = 0; d < PART; d++) o[d] *= less;
      peak = high;
    }
    #pragma unroll
    for (int b = 0; b < BK; b++) {
      p[b] = POWER(p[b] - base);
      total += p[b];
    }
    NAME(weigh)(o, p, v + n * VR);
    done += BK;
  } while (done < end);
  if (mine >= M) return;
#if SLICED
  const int at = (get_group_id(2) * H + h) * M + m;
  #pragma unroll
  for (int d = 0; d < PART; d += 4)
    rk_store(4, float, (float4)(o[d], o[d + 1], o[d + 2], o[d + 3]), sums + at * PART + d);
  totals[at * 2] = peak;
  totals[at * 2 + 1] = total;
#else
  y += batch * YB + h * YH + m * YR + part * PART;
  const float share = 1.0f / total;
  #pragma unroll
  for (int d = 0; d < PART; d += 4)
    rk_store_any(4, YT, (float4)(o[d], o[d + 1], o[d + 2], o[d + 3]) * share, y + d);
#endif
}
#undef KEY_WIDE
#undef KEY
#undef VALUE_WIDE
#undef VALUE
#undef UNIT
#undef POWER
