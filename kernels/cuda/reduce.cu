// Sums over the rows of a matrix, and of partial results.
#include "reduce.cuh"

// Stage 1 of a column sum: partial (gridDim.y, C) of x (rows, C).
extern "C" __global__ void column_sums(const REAL *x, REAL *partial, long long rows, int C) {
    const int c = first_channel();
    REAL sums[VEC] = {};
    if (c < C)
        for (long long row = first_row(); row < rows; row += row_step()) {
            const Pack<VEC> values = load<VEC>(x + row * C + c);
#pragma unroll
            for (int e = 0; e < VEC; ++e) sums[e] += values.v[e];
        }
    sum_over_rows(sums, VEC);
    if (threadIdx.y == 0 && c < C)
#pragma unroll
        for (int e = 0; e < VEC; ++e) partial[(long long)blockIdx.y * C + c + e] = sums[e];
}

// Stage 2: y (n,), the sums of partial (parts, n) over the parts. Blocks of (lanes, threads along parts).
extern "C" __global__ void sum_partial(const REAL *partial, REAL *y, int parts, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const double sum = sum_parts(partial + i, i < n, parts, n);
    if (threadIdx.y == 0 && i < n) y[i] = REAL(sum);
}

// The same, kept in double precision.
extern "C" __global__ void sum_partial_double(const REAL *partial, double *y, int parts, long long n) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const double sum = sum_parts(partial + i, i < n, parts, n);
    if (threadIdx.y == 0 && i < n) y[i] = sum;
}

// y (rows, C): the sums of partial (parts, rows, C) over the parts, plus bias (C,) unless it is null. A few parts, many values.
extern "C" __global__ void sum_few(const REAL *partial, const REAL *bias, REAL *y, int parts, int C, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        REAL sum = bias ? bias[i % C] : REAL(0);
        for (int part = 0; part < parts; ++part) sum += partial[part * n + i];
        y[i] = sum;
    }
}
