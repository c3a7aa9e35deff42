  /* The end of a kernel on a GPU whose lanes have TM sums each in a: pixel p of image n, channels
     from m0 on. SLICED ones are stored as they are; lanes past the last pixel store nothing. */
  if (mine >= N * pixels) return;
  const int blocks = (M + 3) / 4;
#if SLICED
  y += slice * N * blocks * pixels * 4;
#endif
  #pragma unroll
  for (int i = 0; i < TM; i += 4) {
    const int m = m0 + i;
    if (m < M) {
      const int at = ((n * blocks + m / 4) * pixels + p) * 4;
      float4 v = (float4)(a[i], a[i + 1], a[i + 2], a[i + 3]);
#if SLICED
      rk_store(4, YT, v, y + at);
#else
#if SCALES
      v *= rk_load(4, float, scales + m);
#endif
      v += rk_load(4, float, bias + m);
      EPILOGUE_READ(at)
      v = EPILOGUE;
      rk_store(4, YT, (int4)(m, m + 1, m + 2, m + 3) < M ? v : (float4)0.0f, y + at);
#endif
    }
  }
