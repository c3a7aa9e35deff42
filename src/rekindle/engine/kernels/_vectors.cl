/* For vectors of VW floats: V, integers I as wide, and LANES, their numbers. */
#if VW == 16
#define V float16
#define I int16
#define LANES (I)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
#else
#define V float8
#define I int8
#define LANES (I)(0, 1, 2, 3, 4, 5, 6, 7)
#endif
