/* Elementwise functions of floats, compiled once for each width: V is float{LANES}, I the integer
   vector of that size, F(f) the name rk{LANES}_f. Conditions are I: on vectors all ones or zero.

   Why own functions: PoCL's wheel aborts the process when a builtin takes a float16 by value, its
   scalar exp does not vectorise, and one spelling gives every device the same accuracy. Accuracy
   is tested in tests/engine/test_kernels_render.py over the whole range of floats.

   Polynomials are weighted minimax fits (Lawson's iteration on Chebyshev nodes) of this project. */
#if LANES == 1
#define AS_I as_int
#define AS_V as_float
#define QUARTERS(f, x) f(x)
#elif LANES == 4
#define AS_I as_int4
#define AS_V as_float4
#define QUARTERS(f, x) f(x)
#elif LANES == 8
#define AS_I as_int8
#define AS_V as_float8
#define QUARTERS(f, x) (V)(f((x).s0123), f((x).s4567))
#else
#define AS_I as_int16
#define AS_V as_float16
#define QUARTERS(f, x) (V)(f((x).s0123), f((x).s4567), f((x).s89ab), f((x).scdef))
#endif
/* One lane at a time: PoCL's vector sin, cos and tan are wrong (0.0156 for 1e-38) when another
   lane holds a large number. */
#define LANE_BY_LANE(own, f)                                                                      \
  static inline V own(V x) {                                                                      \
    union { V v; float s[LANES]; } u;                                                             \
    u.v = x;                                                                                      \
    for (int i = 0; i < LANES; i++) u.s[i] = f(u.s[i]);                                           \
    return u.v;                                                                                   \
  }
#define LANE_BY_LANE_2(own, f)                                                                    \
  static inline V own(V x, V y) {                                                                 \
    union { V v; float s[LANES]; } u, w;                                                          \
    u.v = x;                                                                                      \
    w.v = y;                                                                                      \
    for (int i = 0; i < LANES; i++) u.s[i] = f(u.s[i], w.s[i]);                                   \
    return u.v;                                                                                   \
  }

/* NaN in either operand comes through, as in ONNX. */
static inline V F(max)(V a, V b) { return ((a > b) | (a != a)) ? a : b; }
static inline V F(min)(V a, V b) { return ((a < b) | (a != a)) ? a : b; }
/* The same where b is a number for sure: one instruction. */
static inline V F(max_const)(V a, V b) { return a < b ? b : a; }
static inline V F(min_const)(V a, V b) { return a > b ? b : a; }

static inline V F(abs)(V x) { return AS_V(AS_I(x) & (I)0x7fffffff); }
static inline V F(copysign)(V x, V sign) {
  return AS_V((AS_I(x) & (I)0x7fffffff) | (AS_I(sign) & (I)(-0x7fffffff - 1)));
}
static inline I F(isnan)(V x) { return x != x; }
static inline I F(isinf)(V x) { return (AS_I(x) & (I)0x7fffffff) == (I)0x7f800000; }
static inline V F(sign)(V x) { return x > (V)0.0f ? (V)1.0f : (x < (V)0.0f ? (V)-1.0f : x); }
static inline V F(square)(V x) { return x * x; }
static inline V F(cube)(V x) { return x * x * x; }

/* Adding and taking away 2^23 leaves a whole number, halves to even; larger ones are whole. */
static inline V F(round)(V x) {
  V a = F(abs)(x);
  V r = (a + 8388608.0f) - 8388608.0f;
  return a < (V)8388608.0f ? F(copysign)(r, x) : x;
}
static inline V F(floor)(V x) {
  V r = F(round)(x);
  return r > x ? r - 1.0f : r;
}
static inline V F(ceil)(V x) {
  V r = F(round)(x);
  return F(copysign)(r < x ? r + 1.0f : r, x);
}
static inline V F(trunc)(V x) {
  V r = F(round)(F(abs)(x));
  return F(copysign)(r > F(abs)(x) ? r - 1.0f : r, x);
}

/* e^x = 2^n e^r with |r| <= ln 2 / 2; n by the rounding magic number, 2^n in two factors so that
   denormal and infinite results come out right. NaN falls through both clamps. */
static inline V F(exp)(V x) {
  x = x < (V)-104.0f ? (V)-104.0f : x;
  x = x > (V)89.0f ? (V)89.0f : x;
  V t = x * 1.44269504f + 12582912.0f;
  V n = t - 12582912.0f;
  V r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  V q = r * 1.381446475e-3f + 8.368780622e-3f;
  q = q * r + 4.166839426e-2f;
  q = q * r + 1.666652011e-1f;
  q = q * r + 4.999999341e-1f;
  V p = q * (r * r) + r + 1.0f;
  I e = AS_I(t) - (I)0x4b400000;
  I half_e = e >> 1;
  return p * AS_V((half_e + 127) << 23) * AS_V((e - half_e + 127) << 23);
}

static inline V F(tanh)(V x) {
  V a = F(abs)(x);
  V s = x * x;
  V q = s * -5.528624608e-3f + 2.048330654e-2f;
  q = q * s - 5.369296452e-2f;
  q = q * s + 1.333089971e-1f;
  q = q * s - 3.333326288e-1f;
  V large = 1.0f - 2.0f / (F(exp)(a + a) + 1.0f);
  return a < (V)0.625f ? q * s * x + x : F(copysign)(large, x);
}

static inline V F(erf)(V x) {
  V a = F(abs)(x);
  V s = x * x;
  V q = s * 8.345224891e-5f - 8.137437564e-4f;
  q = q * s + 5.200634306e-3f;
  q = q * s - 2.685927078e-2f;
  q = q * s + 1.128369394e-1f;
  q = q * s - 3.761263370e-1f;
  q = q * s + 1.283791666e-1f;
  V t = a < (V)4.0f ? a : (V)4.0f;
  V p = t * 1.959382603e-4f - 3.043226757e-3f;
  p = p * t + 2.222695520e-2f;
  p = p * t - 1.039316645e-1f;
  p = p * t - 6.371821753e-1f;
  p = p * t - 1.127675666f;
  p = p * t - 1.956665294e-4f;
  V large = 1.0f - F(exp)(p);
  return a >= (V)0.92f ? F(copysign)(large, x) : q * x + x;
}

static inline V F(sqrt)(V x) { return QUARTERS(sqrt, x); }
static inline V F(log)(V x) { return QUARTERS(log, x); }
LANE_BY_LANE(F(sin), sin)
LANE_BY_LANE(F(cos), cos)
LANE_BY_LANE(F(tan), tan)
LANE_BY_LANE(F(asin), asin)
LANE_BY_LANE(F(acos), acos)
LANE_BY_LANE(F(atan), atan)
LANE_BY_LANE(F(sinh), sinh)
LANE_BY_LANE(F(cosh), cosh)
LANE_BY_LANE(F(asinh), asinh)
LANE_BY_LANE(F(acosh), acosh)
LANE_BY_LANE(F(atanh), atanh)
LANE_BY_LANE_2(F(pow), pow)
LANE_BY_LANE_2(F(fmod), fmod)
static inline V F(mod)(V x, V y) {
  V m = F(fmod)(x, y);
  V shifted = ((m < (V)0.0f) != (y < (V)0.0f)) ? m + y : m;
  return m == (V)0.0f ? F(copysign)(m, y) : shifted;
}
#undef AS_I
#undef AS_V
#undef QUARTERS
#undef LANE_BY_LANE
#undef LANE_BY_LANE_2
