/* Largest or average element of a sliding window, of one to three axes, blocked or row-major.

   A plane is one channel, or one block of channels. A work-item computes ROWS rows of a plane on a
   CPU (SINGLE: global size (jobs, 1, planes)), one position on a GPU (width, rows, planes). The
   window is cut to x before its loops, so they need no tests. The largest element is NaN where the
   window holds one, wherever it stands (ONNX Runtime's answer depends on the position), and -inf
   where a window lies in the padding altogether; the average of none is NaN.

   MAX        the largest element, else the average
   COUNT_PAD  padding counts in the divisor (what lies beyond it, by rounding up, never does)
   B          channels of a block, 1: row-major
   T          how elements are stored
   V, VW      a vector of elements as they are computed, and how many: VW divides B
   FLOATS     elements may be NaN
   LOWEST     no element is below it
   WIDE       width of the window, where it is small: wholly inside x its loop is unrolled; else 0 */
#if VW == 16
#define KEEP(v, c) ((c) + (int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15) < C ? (v) : (V)0)
#elif VW == 8
#define KEEP(v, c) ((c) + (int8)(0, 1, 2, 3, 4, 5, 6, 7) < C ? (v) : (V)0)
#elif VW == 4
#define KEEP(v, c) ((c) + (int4)(0, 1, 2, 3) < C ? (v) : (V)0)
#else
#define KEEP(v, c) (v)
#endif
#if MAX
#define START (V)LOWEST
#define FOLD(a, b) NAME(larger)(a, b)
#if FLOATS
static inline V NAME(larger)(V a, V b) { return ((b > a) | (b != b)) ? b : a; }
#else
static inline V NAME(larger)(V a, V b) { return b > a ? b : a; }
#endif
#else
#define START (V)0
#define FOLD(a, b) ((a) + (b))
#endif
#define R (B / VW)
#if VW == 1
#define READ(p) rk1_load(T, p, 0)
#define WRITE(v, p) rk1_store(T, p, 0, v)
#else
#define READ(p) rk_load(VW, T, p)
#define WRITE(v, p) rk_store(VW, T, v, p)
#endif

/* Taps of an axis that lie in x: from the first to the one before the last. */
static inline int NAME(first)(int start, int dilation)
{
  return start < 0 ? (-start + dilation - 1) / dilation : 0;
}
static inline int NAME(last)(int start, int size, int kernel_size, int dilation)
{
  return start < size ? min(kernel_size, (size - 1 - start) / dilation + 1) : 0;
}

__kernel
#if SINGLE
__attribute__((reqd_work_group_size(1, 1, 1)))
#endif
void NAME(pool)(const __global T *restrict x, int C, int D, int H, int W, int OD, int OH, int OW,
                int KD, int KH, int KW, int SD, int SH, int SW, int PD, int PH, int PW, int ED,
                int EH, int EW, int LD, int LH, int LW, int ROWS, __global T *restrict y)
{
#if SINGLE
  const int row0 = get_global_id(0) * ROWS, row1 = min(row0 + ROWS, OD * OH), left = 0, right = OW;
#else
  const int row0 = get_global_id(1), row1 = row0 + 1, left = get_global_id(0), right = left + 1;
#endif
  const int plane = get_global_id(2);
  x += plane * D * H * W * B;
  for (int row = row0; row < row1; row++) {
    const int z = row / OH * SD - PD, z0 = NAME(first)(z, LD), z1 = NAME(last)(z, D, KD, LD);
    const int v = row % OH * SH - PH, v0 = NAME(first)(v, LH), v1 = NAME(last)(v, H, KH, LH);
    for (int ox = left; ox < right; ox++) {
      const int u = ox * SW - PW, u0 = NAME(first)(u, LW), u1 = NAME(last)(u, W, KW, LW);
      V a[R];
      #pragma unroll
      for (int r = 0; r < R; r++) a[r] = START;
      for (int kz = z0; kz < z1; kz++)
        for (int ky = v0; ky < v1; ky++) {
          const __global T *at = x + (((z + kz * LD) * H + v + ky * LH) * W + u) * B;
#if WIDE
          if (u1 - u0 == WIDE) {
            #pragma unroll
            for (int kx = 0; kx < WIDE; kx++)
              #pragma unroll
              for (int r = 0; r < R; r++) a[r] = FOLD(a[r], READ(at + kx * LW * B + r * VW));
            continue;
          }
#endif
          for (int kx = u0; kx < u1; kx++)
            #pragma unroll
            for (int r = 0; r < R; r++) a[r] = FOLD(a[r], READ(at + kx * LW * B + r * VW));
        }
#if !MAX
#if COUNT_PAD
      const int count = NAME(last)(z, D + ED, KD, LD) * NAME(last)(v, H + EH, KH, LH) *
                        NAME(last)(u, W + EW, KW, LW);
#else
      const int count = max(z1 - z0, 0) * max(v1 - v0, 0) * max(u1 - u0, 0);
#endif
      #pragma unroll
      for (int r = 0; r < R; r++) a[r] /= (float)count;
#endif
      #pragma unroll
      for (int r = 0; r < R; r++)
        WRITE(KEEP(a[r], plane % ((C + B - 1) / B) * B + r * VW),
              y + ((plane * OD * OH + row) * OW + ox) * B + r * VW);
    }
  }
}
#undef KEEP
#undef START
#undef FOLD
#undef R
#undef READ
#undef WRITE
