/* y[y0 + sum i * y_strides] = x[x0 + sum i * x_strides], for elements T of 1, 2, 4, 8 or 16 bytes.

   FORM 0: loops; X_STEP and Y_STEP move along the innermost.
   FORM 1: the loops `a` (contiguous in x) and `b` (contiguous in y) transpose, in registers.
   FORM 2: the same through local memory, for GPUs. */
#if FORM == 0
__attribute__((reqd_work_group_size(GROUP, 1, 1)))
__kernel void NAME(copy)(const __global T *restrict x, PARAMS const int x0, const int y0,
                         const int rows, const int inner, const int chunk, const int per_item,
                         __global T *restrict y) {
  const int chunks = (inner + chunk - 1) / chunk;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * chunks);
  for (int tile = first; tile < last; tile++) {
    const int row = tile / chunks;
    const int begin = (tile - row * chunks) * chunk;
    const int end = min(begin + chunk, inner);
    OFFSETS
    const __global T *p = x + x0 + ox;
    __global T *q = y + y0 + oy;
    for (int i = begin; i < end; i++) q[i * Y_STEP] = p[i * X_STEP];
  }
}
#elif FORM == 1
#if WORDS
typedef uint8 __attribute__((aligned(4))) NAME(unaligned);
#define LOW(a, b) (uint8)(a.s0, b.s0, a.s1, b.s1, a.s4, b.s4, a.s5, b.s5)
#define HIGH(a, b) (uint8)(a.s2, b.s2, a.s3, b.s3, a.s6, b.s6, a.s7, b.s7)
#define LOW2(a, b) (uint8)(a.s0, a.s1, b.s0, b.s1, a.s4, a.s5, b.s4, b.s5)
#define HIGH2(a, b) (uint8)(a.s2, a.s3, b.s2, b.s3, a.s6, a.s7, b.s6, b.s7)
#define LOAD(k) (*(const __global NAME(unaligned) *)(p + k * xb))
#define STORE(k, v) *(__global NAME(unaligned) *)(q + k * ya) = v

/* 8 by 8 words: pairs, then quads, then halves change places. */
static inline void NAME(square)(const __global T *restrict p, __global T *restrict q, int xb,
                                int ya) {
  const uint8 r0 = LOAD(0), r1 = LOAD(1), r2 = LOAD(2), r3 = LOAD(3);
  const uint8 r4 = LOAD(4), r5 = LOAD(5), r6 = LOAD(6), r7 = LOAD(7);
  const uint8 a0 = LOW(r0, r1), a1 = HIGH(r0, r1), a2 = LOW(r2, r3), a3 = HIGH(r2, r3);
  const uint8 a4 = LOW(r4, r5), a5 = HIGH(r4, r5), a6 = LOW(r6, r7), a7 = HIGH(r6, r7);
  const uint8 b0 = LOW2(a0, a2), b1 = HIGH2(a0, a2), b2 = LOW2(a1, a3), b3 = HIGH2(a1, a3);
  const uint8 b4 = LOW2(a4, a6), b5 = HIGH2(a4, a6), b6 = LOW2(a5, a7), b7 = HIGH2(a5, a7);
  STORE(0, ((uint8)(b0.lo, b4.lo)));
  STORE(1, ((uint8)(b1.lo, b5.lo)));
  STORE(2, ((uint8)(b2.lo, b6.lo)));
  STORE(3, ((uint8)(b3.lo, b7.lo)));
  STORE(4, ((uint8)(b0.hi, b4.hi)));
  STORE(5, ((uint8)(b1.hi, b5.hi)));
  STORE(6, ((uint8)(b2.hi, b6.hi)));
  STORE(7, ((uint8)(b3.hi, b7.hi)));
}
#undef LOW
#undef HIGH
#undef LOW2
#undef HIGH2
#undef LOAD
#undef STORE
#else
static inline void NAME(square)(const __global T *restrict p, __global T *restrict q, int xb,
                                int ya) {
  T s[8][8];
  for (int b = 0; b < 8; b++)
    for (int a = 0; a < 8; a++) s[a][b] = p[b * xb + a];
  for (int a = 0; a < 8; a++)
    for (int b = 0; b < 8; b++) q[a * ya + b] = s[a][b];
}
#endif

__attribute__((reqd_work_group_size(1, 1, 1)))
__kernel void NAME(copy)(const __global T *restrict x, PARAMS const int x0, const int y0,
                         const int rows, const int a_size, const int b_size, const int ya,
                         const int xb, const int per_item, __global T *restrict y) {
  const int a_tiles = (a_size + 7) / 8, b_tiles = (b_size + 7) / 8;
  const int first = (int)get_global_id(0) * per_item;
  const int last = min(first + per_item, rows * a_tiles * b_tiles);
  for (int tile = first; tile < last; tile++) {
    const int b = tile % b_tiles * 8;
    const int rest = tile / b_tiles;
    const int a = rest % a_tiles * 8;
    const int row = rest / a_tiles;
    OFFSETS
    const __global T *p = x + x0 + ox + b * xb + a;
    __global T *q = y + y0 + oy + a * ya + b;
    if (a + 8 <= a_size && b + 8 <= b_size) {
      NAME(square)(p, q, xb, ya);
    } else {
      const int a_rest = min(8, a_size - a), b_rest = min(8, b_size - b);
      for (int k = 0; k < a_rest; k++)
        for (int l = 0; l < b_rest; l++) q[k * ya + l] = p[l * xb + k];
    }
  }
}
#else
/* One column more than a tile is wide: a wave reads the tile's columns from 32 banks. */
__attribute__((reqd_work_group_size(32, 8, 1)))
__kernel void NAME(copy)(const __global T *restrict x, PARAMS const int x0, const int y0,
                         const int rows, const int a_size, const int b_size, const int ya,
                         const int xb, __global T *restrict y) {
  __local T s[32][33];
  const int row = get_global_id(2);
  OFFSETS
  const int l = get_local_id(0), k = get_local_id(1);
  const int a = get_group_id(0) * 32, b = get_group_id(1) * 32;
  for (int j = k; j < 32; j += 8)
    if (a + l < a_size && b + j < b_size) s[j][l] = x[x0 + ox + (b + j) * xb + a + l];
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int j = k; j < 32; j += 8)
    if (a + j < a_size && b + l < b_size) y[y0 + oy + (a + j) * ya + b + l] = s[l][j];
}
#endif
