/* Scalar functions for the other dtypes: what C leaves undefined gets NumPy's answer. */
#ifdef cl_khr_fp64
#pragma OPENCL EXTENSION cl_khr_fp64 : enable
#endif

/* Floats outside the integer's range, NaN and infinity give the smallest integer, as on x86. */
static inline int rk1_int(float x) {
  return x >= -2147483648.0f && x < 2147483648.0f ? (int)x : -0x7fffffff - 1;
}
static inline long rk1_long(float x) {
  return x >= -9223372036854775808.0f && x < 9223372036854775808.0f ? (long)x
                                                                     : -0x7fffffffffffffffL - 1;
}
static inline ulong rk1_ulong(float x) {
  return x >= 9223372036854775808.0f && x < 18446744073709551616.0f ? (ulong)x : (ulong)rk1_long(x);
}

/* A division by zero would end the process; NumPy gives 0. Overflow wraps. */
#define RK1_INTEGER(T, U)                                                                          \
  static inline T rk1_div_##T(T a, T b) {                                                          \
    return b == 0 ? 0 : (b == (T)-1 && (T)-1 < 0 ? (T)(0 - (U)a) : a / b);                        \
  }                                                                                               \
  static inline T rk1_fmod_##T(T a, T b) {                                                         \
    return b == 0 || (b == (T)-1 && (T)-1 < 0) ? 0 : a % b;                                       \
  }                                                                                               \
  static inline T rk1_mod_##T(T a, T b) {                                                          \
    T m = rk1_fmod_##T(a, b);                                                                      \
    return m != 0 && (m < 0) != (b < 0) ? m + b : m;                                              \
  }                                                                                               \
  static inline T rk1_pow_##T(T base, T exponent) {                                                \
    U result = 1, power = (U)base;                                                                \
    if (exponent < 0)                                                                             \
      return base == 1 ? 1 : (base == (T)-1 ? (exponent & 1 ? (T)-1 : 1) : 0);                    \
    for (U e = (U)exponent; e; e >>= 1, power *= power)                                           \
      if (e & 1) result *= power;                                                                 \
    return (T)result;                                                                             \
  }                                                                                               \
  static inline T rk1_sign_##T(T x) { return (x > 0) - (x < 0); }
RK1_INTEGER(int, uint)
RK1_INTEGER(uint, uint)
RK1_INTEGER(long, ulong)
RK1_INTEGER(ulong, ulong)

#ifdef cl_khr_fp64
static inline double rk1_double_max(double a, double b) { return a > b || a != a ? a : b; }
static inline double rk1_double_min(double a, double b) { return a < b || a != a ? a : b; }
static inline double rk1_double_sign(double x) { return x > 0 ? 1 : (x < 0 ? -1 : x); }
static inline double rk1_double_mod(double x, double y) {
  double m = fmod(x, y);
  if (m == 0) return copysign(m, y);
  return (m < 0) != (y < 0) ? m + y : m;
}
static inline long rk1_double_long(double x) {
  return x >= -9223372036854775808.0 && x < 9223372036854775808.0 ? (long)x
                                                                   : -0x7fffffffffffffffL - 1;
}
static inline int rk1_double_int(double x) {
  return x > -2147483649.0 && x < 2147483648.0 ? (int)x : -0x7fffffff - 1;
}
static inline ulong rk1_double_ulong(double x) {
  return x >= 9223372036854775808.0 && x < 18446744073709551616.0 ? (ulong)x : (ulong)rk1_double_long(x);
}
#endif
