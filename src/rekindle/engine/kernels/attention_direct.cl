/* Attention, any sizes, any device: a work-item has one query of one head.

   The softmax is summed up while keys go by: a new maximum scales down what was summed before.
   q, k, v, y, mask: batch b, head h, row r begins at b * .B + h * .H + r * .R.
   Global size: (queries, heads, batch).

   D, DV  floats in a query or key, and in a value
   MASK   0 or 1
   QT, KT, VT, MT, YT  how q, k, v, the mask and y are stored */
__kernel void NAME(attend)(
    const __global QT *restrict q, const __global KT *restrict k,
    const __global VT *restrict v,
#if MASK
    const __global MT *restrict mask, int MB, int MH, int MR,
#endif
    int N, float scale, int QB, int QH, int QR, int KB, int KH, int KR, int VB, int VH, int VR,
    int YB, int YH, int YR, __global YT *restrict y)
{
  const int m = get_global_id(0), h = get_global_id(1), b = get_global_id(2);
  q += b * QB + h * QH + m * QR;
  k += b * KB + h * KH;
  v += b * VB + h * VH;
  y += b * YB + h * YH + m * YR;
#if MASK
  mask += b * MB + h * MH + m * MR;
#endif
  float o[DV], peak = -INFINITY, total = 0.0f;
  for (int d = 0; d < DV; d++) o[d] = 0.0f;
  for (int n = 0; n < N; n++) {
    float s = 0.0f;
    for (int d = 0; d < D; d++) s += rk1_load(QT, q, d) * rk1_load(KT, k, n * KR + d);
    s *= scale;
#if MASK
    s += rk1_load(MT, mask, n);
#endif
    /* While every score is minus infinity there is nothing to scale: 0 stands for the peak. */
    const float high = peak < s ? s : peak, base = high == -INFINITY ? 0.0f : high;
    const float less = rk1_exp(peak - base), power = rk1_exp(s - base);
    for (int d = 0; d < DV; d++) o[d] = o[d] * less + power * rk1_load(VT, v, n * VR + d);
    total = total * less + power;
    peak = high;
  }
  for (int d = 0; d < DV; d++) rk1_store(YT, y, d, o[d] / total);
}
