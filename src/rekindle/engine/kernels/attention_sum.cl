/* The second half of attention with its keys in slices: weighs each slice's sum of values by what its
   highest score is below the highest of all.

   A work-item is 4 floats of one query. sums: (S, Z, heads, queries, PART), totals: (S, Z, heads,
   queries, 2), as attention_lanes leaves them. Global size: (queries * PART / 4 up to 64 n, heads,
   Z). y: batch b, head h, row r begins at b * YB + h * YH + r * YR.

   SUMS      1: what this launch promises of its instructions
   DV, PART  floats in a value, and in a part of it
   NATIVE    as in attention_lanes
   YT        how y is stored */
#if NATIVE
#define POWER(x) native_exp2(x)
#else
#define POWER(x) rk1_exp(x)
#endif

__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void NAME(sum)(
    const __global float *restrict sums, const __global float *restrict totals, int S, int M,
    int YB, int YH, int YR, __global YT *restrict y)
{
  const int mine = get_global_id(0), m = mine / (PART / 4), d = mine % (PART / 4) * 4;
  if (m >= M) return;
  const int h = get_group_id(1), H = get_num_groups(1), z = get_group_id(2);
  const int first = (z * H + h) * M + m, step = get_num_groups(2) * H * M;
  float high = -INFINITY;
  for (int s = 0; s < S; s++) high = fmax(high, totals[(first + s * step) * 2]);
  const float base = high == -INFINITY ? 0.0f : high;
  float total = 0.0f;
  float4 v = (float4)0.0f;
  for (int s = 0; s < S; s++) {
    const int at = first + s * step;
    const float weight = POWER(totals[at * 2] - base);
    total += totals[at * 2 + 1] * weight;
    v += rk_load(4, float, sums + at * PART + d) * weight;
  }
  const int part = z % (DV / PART), batch = z / (DV / PART);
  rk_store_any(4, YT, v * (1.0f / total), y + batch * YB + h * YH + m * YR + part * PART + d);
}
#undef POWER
