/* Weights are loaded as vectors: single loads in a loop LLVM does not merge for the scalar unit. */
#if TM % 16 == 0
#define WIDE 16
#define WEIGHTS float16
#elif TM == 8
#define WIDE 8
#define WEIGHTS float8
#else
#define WIDE 4
#define WEIGHTS float4
#endif

/* Adds one input channel of value s, with its TM weights at k. */
static inline void NAME(add)(float *a, const __global WT *restrict k, float s)
{
  #pragma unroll
  for (int i = 0; i < TM; i += WIDE) {
    union { WEIGHTS all; float each[WIDE]; } w;
    w.all = rk_load(WIDE, WT, k + i);
    #pragma unroll
    for (int j = 0; j < WIDE; j++) a[i + j] += w.each[j] * s;
  }
}
