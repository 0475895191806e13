// What happens to a convolution's results on their way out, and the sums of a block's columns.
#pragma once
#include "multiply.cuh"

#define BIAS 0       // + bias, unless that is null
#define BIAS_RELU 1  // + bias [+ skip], cut off below zero
#define MOMENTS 2    // as it is; partial (blocks, 3, N): a pivot p, the sums of d and of d^2, where d = value - p
#define MASK 3       // [+ skip], 0 where the layer below is not positive; partial (blocks, 2, N): sums of dz, dz * (y - mean)

// The layer below an input gradient: y, a, skip (M, N), mean, scale, shift (N,), each of them null where it takes no part.
// It is positive where a is, or where scale * y + shift is if there is no a.
struct BackwardEpilogue {
    const REAL *y, *mean, *scale, *shift, *a, *skip;
};

// Value of the layer below, for its sign, and the centred y that dz is summed with.
struct Mask {
    REAL scale[TN], shift[TN], mean[TN];

    __device__ void fetch(const BackwardEpilogue &below, int j, int n) {
        scale[j] = below.a ? REAL(0) : below.scale[n];
        shift[j] = below.a ? REAL(0) : below.shift[n];
        mean[j] = below.y ? below.mean[n] : REAL(0);
    }

    // Masks VEC_OUT gradients that lie at `at`, the j-th columns of this thread, and adds to its sums.
    __device__ void apply(Pack<VEC_OUT> &values, const BackwardEpilogue &below, int at, int j, REAL (&sums)[2][TN]) const {
        Pack<VEC_OUT> y = {}, a = {}, skip = {};
        if (below.y) y = load<VEC_OUT>(below.y + at);
        if (below.a) a = load<VEC_OUT>(below.a + at);
        if (below.skip) skip = load<VEC_OUT>(below.skip + at);
#pragma unroll
        for (int e = 0; e < VEC_OUT; ++e) {
            const REAL positive = below.a ? a.v[e] : affine(y.v[e], scale[j + e], shift[j + e]);
            const REAL dz = positive > 0 ? values.v[e] + skip.v[e] : REAL(0);
            values.v[e] = dz;
            sums[0][j + e] += dz;
            if (below.y) sums[1][j + e] += dz * (y.v[e] - mean[j + e]);
        }
    }
};

// Adds up the sums of a block's threads over its rows and writes them as the last two rows of partial sums (terms, N). scratch
// is shared memory, nobody else's, for 2 * (BM / TM) * BN values.
__device__ __forceinline__ void store_sums(
    const REAL (&sums)[2][TN], REAL *scratch, REAL *row, int terms, int n_first, int N) {
    const int lines = BM / TM;
#pragma unroll
    for (int k = 0; k < 2; ++k)
#pragma unroll
        for (int j = 0; j < TN; ++j) scratch[(k * lines + Share::top() / 4) * BN + Share::column(j)] = sums[k][j];
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * BN; i += THREADS) {
        const int k = i / BN, n = i % BN;
        if (n_first + n >= N) continue;
        REAL sum = 0;
        for (int l = 0; l < lines; ++l) sum += scratch[(k * lines + l) * BN + n];
        row[(terms - 2 + k) * N + n_first + n] = sum;
    }
}
