/* Squeeze and excite on a GPU: the mean of each channel, two products, a work-group an image.

   The 256 lanes of a group first sum channels: `each` lanes (a power of two) read the pixels of one
   block of 4 side by side. Then they multiply: a lane has one block of 4 outputs and every so
   manieth input, which lies in local memory. What the lanes of one sum have one lane adds, in a
   fixed order. Means, hidden values and outputs are 1024 at most: a block for each lane. (Barriers
   in loops, which more would need, take PoCL half a minute to compile.)

   x and y are blocked by 4 channels. Weights: (C, blocks of S, 4) and (S, blocks of M, 4), zero
   past S and M. Global size: (256, batch).

   POOL        0: x is one pixel, the means are there already
   XT, YT      how x and y are stored
   WT1, WT2    how the weights of the products are
   SCALES1, 2  1: sums are multiplied by `scales` */
#define GROUP 256
/* Loads of a lane that are under way together. */
#define AHEAD 4
/* Lanes that add to one sum, at most: one lane reads in turn what they have. */
#define PARTS 64

/* The first `step` lanes get the sums of `parts` lanes, which are `step` places apart. */
static inline float4 NAME(join)(__local float4 *shared, float4 v, int place, int step, int parts)
{
  const int item = get_local_id(0);
  float4 sum = (float4)0.0f;
  shared[place] = v;
  barrier(CLK_LOCAL_MEM_FENCE);
  if (item < step)
    for (int i = 0; i < parts; i++) sum += shared[item + i * step];
  barrier(CLK_LOCAL_MEM_FENCE);
  return sum;
}

static inline void NAME(keep)(__local float *values, float4 v)
{
  __local float *at = values + get_local_id(0) * 4;
  at[0] = v.x;
  at[1] = v.y;
  at[2] = v.z;
  at[3] = v.w;
}

#if POOL
/* Means of an image of CB blocks of channels: lane i gets those of block i. */
static inline float4 NAME(pool)(
    __local float4 *shared, const __global XT *restrict x, int CB, int pixels, int each)
{
  const int item = get_local_id(0), together = GROUP / each;
  const int mine = item / each, lane = item % each;
  /* Behind the last block lanes sum that one again. */
  const __global XT *at = x + min(mine, CB - 1) * pixels * 4;
  float4 a = (float4)0.0f;
  int p = lane;
  for (; p + (AHEAD - 1) * each < pixels; p += AHEAD * each) {
    float4 v[AHEAD];
    #pragma unroll
    for (int i = 0; i < AHEAD; i++) v[i] = rk_load(4, XT, at + (p + i * each) * 4);
    #pragma unroll
    for (int i = 0; i < AHEAD; i++) a += v[i];
  }
  for (; p < pixels; p += each) a += rk_load(4, XT, at + p * 4);
  return NAME(join)(shared, a, lane * together + mine, together, each) / (float)pixels;
}
#endif

/* Sums of K values for B blocks of outputs: lane i gets block i. */
#define PRODUCT(name, WT)                                                                         \
  static inline float4 NAME(name)(                                                                \
      __local float4 *shared, const __local float *in, int K, const __global WT *restrict w, int B)\
  {                                                                                               \
    const int item = get_local_id(0), parts = min(GROUP / B, PARTS);                              \
    const int part = item / B, step = parts * B * 4;                                              \
    const __global WT *at = w + item * 4;                                                         \
    float4 a = (float4)0.0f;                                                                      \
    int k = part < parts ? part : K;                                                              \
    for (; k + (AHEAD - 1) * parts < K; k += AHEAD * parts, at += AHEAD * step) {                 \
      float4 v[AHEAD];                                                                            \
      _Pragma("unroll")                                                                           \
      for (int i = 0; i < AHEAD; i++) v[i] = rk_load(4, WT, at + i * step);                       \
      _Pragma("unroll")                                                                           \
      for (int i = 0; i < AHEAD; i++) a += v[i] * in[k + i * parts];                              \
    }                                                                                             \
    for (; k < K; k += parts, at += step) a += rk_load(4, WT, at) * in[k];                        \
    return NAME(join)(shared, a, item, B, parts);                                                 \
  }
PRODUCT(squeezed, WT1)
PRODUCT(excited, WT2)

__kernel __attribute__((reqd_work_group_size(GROUP, 1, 1))) void NAME(excite)(
    const __global XT *restrict x, const __global WT1 *restrict w1,
    const __global float *restrict bias1,
#if SCALES1
    const __global float *restrict scales1,
#endif
    const __global WT2 *restrict w2, const __global float *restrict bias2,
#if SCALES2
    const __global float *restrict scales2,
#endif
    int C, int S, int M, int pixels, int each, EPILOGUE_PARAMS __global YT *restrict y)
{
  __local float4 shared[GROUP];
  __local float means[GROUP * 4], hidden[GROUP * 4];
  const int item = get_local_id(0), n = get_group_id(1);
  const int CB = (C + 3) / 4, SB = (S + 3) / 4, MB = (M + 3) / 4, m = item * 4;
  float4 v = (float4)0.0f;
  x += n * CB * pixels * 4;
#if POOL
  v = NAME(pool)(shared, x, CB, pixels, each);
#else
  if (item < CB) v = rk_load(4, XT, x + m);
#endif
  NAME(keep)(means, v);
  barrier(CLK_LOCAL_MEM_FENCE);
  v = NAME(squeezed)(shared, means, C, w1, SB);
  if (item < SB) {
#if SCALES1
    v *= rk_load(4, float, scales1 + m);
#endif
    v += rk_load(4, float, bias1 + m);
    v = MIDDLE;
    NAME(keep)(hidden, v);
  }
  barrier(CLK_LOCAL_MEM_FENCE);
  v = NAME(excited)(shared, hidden, S, w2, MB);
  if (item < MB) {
    const int at = n * MB * 4 + m;
#if SCALES2
    v *= rk_load(4, float, scales2 + m);
#endif
    v += rk_load(4, float, bias2 + m);
    EPILOGUE_READ(at)
    v = EPILOGUE;
    rk_store(4, YT, m + (int4)(0, 1, 2, 3) < M ? v : (float4)0.0f, y + at);
  }
}
#undef GROUP
#undef AHEAD
#undef PARTS
#undef PRODUCT
