/* Depthwise convolution on a CPU: one kernel a channel, x and y blocked by 16 channels.

   A work-item computes rows of one block of channels, in tiles of P pixels. For each kernel row it
   loads each input column of the tile once and adds it to every pixel that wants it; a column
   outside x is read from zeros, so that there are no edge tiles. Rows outside x are left out. The
   last tile of a row is moved back to overlap the one before it.

   Weights: (blocks of C, KH, KW, 16), zero past C. Global size: (jobs, blocks of C, batch); a job
   is T rows.

   P           pixels of a tile
   VW          floats in a vector: 8 or 16
   KW, SW, DW  window, stride and dilation along a row
   XT, YT      how x and y are stored; the weights, few beside x, are float */
#include "_vectors.cl"
#define LOAD(p) (*(const __global V *)(p))
#define COLUMNS ((P - 1) * SW + (KW - 1) * DW + 1)

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void NAME(depthwise)(
    const __global XT *restrict x, const __global float *restrict w,
    const __global float *restrict bias, const __global XT *restrict zeros, int C, int H, int W,
    int OH, int OW, int KH, int SH, int PH, int PW, int DH, int T,
    EPILOGUE_PARAMS __global YT *restrict y)
{
  const int block = get_global_id(1), plane = get_global_id(2) * get_global_size(1) + block;
  const int end = min(((int)get_global_id(0) + 1) * T, OH);
  x += plane * H * W * 16;
  for (int oy = get_global_id(0) * T; oy < end; oy++) {
    /* The kernel rows ky0 to ky1 lie in x. */
    const int y0 = oy * SH - PH;
    const int ky0 = y0 < 0 ? (-y0 + DH - 1) / DH : 0;
    const int ky1 = y0 < H ? min(KH, (H - 1 - y0) / DH + 1) : 0;
    for (int t = 0; t < OW; t += P) {
      const int ox = min(t, OW - P), x0 = ox * SW - PW;
      #pragma unroll
      for (int lane = 0; lane < 16; lane += VW) {
        const __global XT *at[COLUMNS];
        int step[COLUMNS];
        #pragma unroll
        for (int j = 0; j < COLUMNS; j++) {
          const int in = (uint)(x0 + j) < (uint)W;
          at[j] = in ? x + ((y0 + ky0 * DH) * W + x0 + j) * 16 + lane : zeros;
          step[j] = in ? DH * W * 16 : 0;
        }
        V a[P];
        #pragma unroll
        for (int i = 0; i < P; i++) a[i] = LOAD(bias + block * 16 + lane);
        const __global float *wp = w + (block * KH + ky0) * KW * 16 + lane;
        for (int ky = ky0; ky < ky1; ky++, wp += KW * 16) {
          V b[KW];
          #pragma unroll
          for (int kx = 0; kx < KW; kx++) b[kx] = LOAD(wp + kx * 16);
          #pragma unroll
          for (int j = 0; j < COLUMNS; j++) {
            const V column = rk_load(VW, XT, at[j]);
            #pragma unroll
            for (int i = 0; i < P; i++)
              #pragma unroll
              for (int kx = 0; kx < KW; kx++)
                if (i * SW + kx * DW == j) a[i] += column * b[kx];
            at[j] += step[j];
          }
        }
        const int first = ((plane * OH + oy) * OW + ox) * 16 + lane;
        const I real = LANES + block * 16 + lane < C;
        #pragma unroll
        for (int i = 0; i < P; i++) {
          V v = a[i];
          EPILOGUE_READ(first + i * 16)
          v = EPILOGUE;
          rk_store(VW, YT, real ? v : (V)0.0f, y + first + i * 16);
        }
      }
    }
  }
}
#undef V
#undef I
#undef LANES
#undef LOAD
#undef COLUMNS
