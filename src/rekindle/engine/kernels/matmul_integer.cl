/* Products of matrices of bytes, summed exactly in 32 bits: y = (a - za) (b - zb).

   A work-item has ROWS rows of COLUMNS neighbouring columns. `offsets` holds, for each batch, the
   numbers of its matrix in a and in b. ZA, ZB: 0 no zero point, 1 one for all, 2 one a row of a
   or a column of b. Global size: (column tiles, row tiles, batches). */
__kernel void NAME(matmul)(const __global TA *restrict a, const __global TB *restrict b,
#if ZA
                           const __global TA *restrict za,
#endif
#if ZB
                           const __global TB *restrict zb,
#endif
                           const __global int *restrict offsets, const int M, const int N,
                           const int K, __global int *restrict y) {
  const int column = min((int)get_global_id(0) * COLUMNS, max(N - COLUMNS, 0));
  const int row = min((int)get_global_id(1) * ROWS, max(M - ROWS, 0));
  const int batch = get_global_id(2);
  const int wide = min(COLUMNS, N), high = min(ROWS, M);
  a += offsets[2 * batch] * M * K + row * K;
  b += offsets[2 * batch + 1] * K * N + column;
  int sums[ROWS][COLUMNS], from_a[ROWS], from_b[COLUMNS];
  for (int r = 0; r < ROWS; r++) {
    from_a[r] = 0;
#if ZA == 1
    from_a[r] = za[0];
#elif ZA == 2
    from_a[r] = za[row + min(r, high - 1)];
#endif
    for (int c = 0; c < COLUMNS; c++) sums[r][c] = 0;
  }
  for (int c = 0; c < COLUMNS; c++) {
    from_b[c] = 0;
#if ZB == 1
    from_b[c] = zb[0];
#elif ZB == 2
    from_b[c] = zb[column + min(c, wide - 1)];
#endif
  }
  if (wide == COLUMNS && high == ROWS) {
    for (int k = 0; k < K; k++) {
      int v[COLUMNS];
      for (int c = 0; c < COLUMNS; c++) v[c] = (int)b[k * N + c] - from_b[c];
      for (int r = 0; r < ROWS; r++) {
        const int u = (int)a[r * K + k] - from_a[r];
        for (int c = 0; c < COLUMNS; c++) sums[r][c] += u * v[c];
      }
    }
  } else {
    for (int k = 0; k < K; k++)
      for (int r = 0; r < high; r++)
        for (int c = 0; c < wide; c++)
          sums[r][c] += ((int)a[r * K + k] - from_a[r]) * ((int)b[k * N + c] - from_b[c]);
  }
  y += (batch * M + row) * N + column;
  for (int r = 0; r < high; r++)
    for (int c = 0; c < wide; c++) y[r * N + c] = sums[r][c];
}
