/* Elementwise functions of floats, compiled once for each width: V is float{LANES}, I the integer
   vector of that size, F(f) the name rk{LANES}_f. Conditions are I: on vectors all ones or zero.

   Why own functions: PoCL's wheel aborts the process when a builtin takes a float16 by value, its
   scalar exp does not vectorise, and one spelling gives every device the same accuracy. Accuracy
   is tested in tests/engine/test_kernels_render.py over the whole range of floats.

   Polynomials are weighted minimax fits (Lawson's iteration on Chebyshev nodes) of this project. */
#if LANES == 1
#define AS_I as_int
#define AS_V as_float
#define EACH(f, x) f(x)
#define EACH2(f, x, y) f(x, y)
#elif LANES == 4
#define AS_I as_int4
#define AS_V as_float4
#define EACH(f, x) f(x)
#define EACH2(f, x, y) f(x, y)
#elif LANES == 8
#define AS_I as_int8
#define AS_V as_float8
#define EACH(f, x) (V)(f((x).s0123), f((x).s4567))
#define EACH2(f, x, y) (V)(f((x).s0123, (y).s0123), f((x).s4567, (y).s4567))
#else
#define AS_I as_int16
#define AS_V as_float16
#define EACH(f, x) (V)(f((x).s0123), f((x).s4567), f((x).s89ab), f((x).scdef))
#define EACH2(f, x, y)                                                                            \
  (V)(f((x).s0123, (y).s0123), f((x).s4567, (y).s4567), f((x).s89ab, (y).s89ab),                  \
      f((x).scdef, (y).scdef))
#endif

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

static inline V F(sqrt)(V x) { return EACH(sqrt, x); }
static inline V F(log)(V x) { return EACH(log, x); }
static inline V F(sin)(V x) { return EACH(sin, x); }
static inline V F(cos)(V x) { return EACH(cos, x); }
static inline V F(tan)(V x) { return EACH(tan, x); }
static inline V F(asin)(V x) { return EACH(asin, x); }
static inline V F(acos)(V x) { return EACH(acos, x); }
static inline V F(atan)(V x) { return EACH(atan, x); }
static inline V F(sinh)(V x) { return EACH(sinh, x); }
static inline V F(cosh)(V x) { return EACH(cosh, x); }
static inline V F(asinh)(V x) { return EACH(asinh, x); }
static inline V F(acosh)(V x) { return EACH(acosh, x); }
static inline V F(atanh)(V x) { return EACH(atanh, x); }
static inline V F(pow)(V x, V y) { return EACH2(pow, x, y); }
static inline V F(fmod)(V x, V y) { return EACH2(fmod, x, y); }
static inline V F(mod)(V x, V y) {
  V m = F(fmod)(x, y);
  V shifted = ((m < (V)0.0f) != (y < (V)0.0f)) ? m + y : m;
  return m == (V)0.0f ? F(copysign)(m, y) : shifted;
}
#undef AS_I
#undef AS_V
#undef EACH
#undef EACH2
