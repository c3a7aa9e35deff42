/* One launch that walks through many (engine/walk.py). Before this text stand the templates as
   functions, after it `rk_step<n>` for each kind n of steps, and RK_WALK of a case for each.

   table: where the record of each step begins, then the records: the kind, three global sizes and
   the arguments. states: for all steps together and then for each one, jobs done and a counter of
   jobs taken for each worker's share, a line of the cache each. */
#define RK_LINE 16
#define RK_IDS rk_id0, rk_id1, rk_id2, rk_n0, rk_n1, rk_n2
#if defined(__x86_64__)
#define RK_PAUSE __builtin_ia32_pause()
#else
#define RK_PAUSE
#endif

/* A worker takes the jobs of its own share first, whose inputs its cache may hold, then what is
   left of the others'. It goes on when every job is done, also those that others have taken. */
#define RK_SHARE_OUT(job)                                                                         \
  const int rk_n0 = (int)t[1], rk_n1 = (int)t[2], rk_n2 = (int)t[3], n = rk_n0 * rk_n1 * rk_n2;   \
  int done = 0;                                                                                   \
  for (int k = 0; k < workers; k++) {                                                             \
    const int share = me + k < workers ? me + k : me + k - workers;                               \
    const int from = (int)((long)n * share / workers);                                            \
    const int count = (int)((long)n * (share + 1) / workers) - from;                              \
    volatile __global int *taken = state + (share + 1) * RK_LINE;                                 \
    for (int i; *taken < count && (i = atomic_inc(taken)) < count; done++) {                      \
      const int rk_id0 = (from + i) % rk_n0, rk_id1 = (from + i) / rk_n0 % rk_n1;                 \
      const int rk_id2 = (from + i) / rk_n0 / rk_n1;                                              \
      job;                                                                                        \
    }                                                                                             \
  }                                                                                               \
  mem_fence(CLK_GLOBAL_MEM_FENCE);                                                                \
  if (done) atomic_add(state, done);                                                              \
  while (*state < n) RK_PAUSE;                                                                    \
  mem_fence(CLK_GLOBAL_MEM_FENCE);

/* `activations` is only named for the driver, to which the addresses in the table are numbers. */
#define RK_WALK(cases)                                                                            \
  __kernel __attribute__((reqd_work_group_size(1, 1, 1))) void walk(                              \
      const __global long *restrict table, volatile __global int *states,                         \
      __global char *activations, const int first, const int last) {                              \
    const int me = get_group_id(0), workers = get_num_groups(0), size = (workers + 1) * RK_LINE;  \
    for (int step = first; step < last; step++) {                                                 \
      const __global long *t = table + table[step];                                               \
      volatile __global int *state = states + (step + 1) * size;                                  \
      switch ((int)t[0]) { cases }                                                                \
    }                                                                                             \
    /* Who leaves last clears the counters: nobody reads them any more. */                        \
    if (atomic_inc(states) == workers - 1) {                                                      \
      for (int i = (first + 1) * size; i < (last + 1) * size; i++) states[i] = 0;                 \
      states[0] = 0;                                                                              \
    }                                                                                             \
  }

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void address(
    const __global char *buffer, __global ulong *out, const int at) {
  out[at] = (ulong)buffer;
}
