// The product of two slices in shared memory, (BK, BM) and (BK, BN): which results are a thread's, and how they grow. With
// TF32 tensor cores compute it, from factors rounded to TF32 (8 bits of exponent, 10 of mantissa) in float32 sums.
#pragma once
#include "tiles.cuh"

// A thread's results are groups of 4 x 4, spread over the tile; top and left are the first one's row and column. They are
// computed anew wherever they are needed: kept, they would take registers.
struct Share {
    static const int m_groups = TM / 4, n_groups = TN / 4;

    __device__ static int row(int i) { return i / 4 * (BM / m_groups) + top() + i % 4; }
    __device__ static int column(int j) { return j / 4 * (BN / n_groups) + left() + j % 4; }

#if TF32
    // A warp computes 32 x 16 results of each group, by four instructions of 16 x 8. Which of a tile's rows, columns and
    // reduction steps are an instruction's is free: chosen so that what a thread needs lies together, in other banks than
    // what its neighbours need. Rows 4g and 4g + 1 (or the two below) are its rows g and g + 8, columns 2n (or 2n + 1) its
    // column n, steps 2t and 2t + 1 its steps t and t + 4.
    static const int warps_across = BN / n_groups / 16;
    static_assert(BM / m_groups % 32 == 0 && BN / n_groups % 16 == 0, "whole warps in a group");

    __device__ static int top() { return (int)threadIdx.x / 32 / warps_across * 32 + (int)threadIdx.x % 32 / 4 * 4; }
    __device__ static int left() { return (int)threadIdx.x / 32 % warps_across * 16 + (int)threadIdx.x % 4 * 4; }

    __device__ static void multiply(
        const REAL (&a_tile)[BK][BM + PADDING], const REAL (&b_tile)[BK][BN + PADDING], REAL (&sums)[TM][TN]) {
        const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll 1  // two at once take registers that the largest tiles have not
        for (int k = 0; k < BK; k += 8) {
            Pack<4> a[m_groups][2];
            Pack<2> b[n_groups][2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const int step = k + 2 * t + half;
#pragma unroll
                for (int i = 0; i < m_groups; ++i) a[i][half] = load<4>(&a_tile[step][row(4 * i)]);
#pragma unroll
                for (int j = 0; j < n_groups; ++j)
                    b[j][half] = load<2>(&b_tile[step][column(4 * j) - 4 * t + 2 * g]);
            }
#pragma unroll
            for (int i = 0; i < TM; i += 2)
#pragma unroll
                for (int j = 0; j < TN / 2; ++j) {
                    const int first = j / 2 * 4 + j % 2;  // of its two columns; the other one is two on
                    const Pack<4> &low = a[i / 4][0], &high = a[i / 4][1];
                    multiply_add_16x8x8(
                        sums[i][first], sums[i][first + 2], sums[i + 1][first], sums[i + 1][first + 2], low.v[i % 4],
                        low.v[i % 4 + 1], high.v[i % 4], high.v[i % 4 + 1], b[j / 2][0].v[j % 2], b[j / 2][1].v[j % 2]);
                }
        }
    }
#else
    // A warp's reads of shared memory do not collide.
    __device__ static int top() { return (int)threadIdx.x / (BN / TN) * 4; }
    __device__ static int left() { return (int)threadIdx.x % (BN / TN) * 4; }

    __device__ static void multiply(
        const REAL (&a_tile)[BK][BM + PADDING], const REAL (&b_tile)[BK][BN + PADDING], REAL (&sums)[TM][TN]) {
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            Pack<4> a[m_groups], b[n_groups];
#pragma unroll
            for (int i = 0; i < m_groups; ++i) a[i] = load<4>(&a_tile[k][row(4 * i)]);
#pragma unroll
            for (int j = 0; j < n_groups; ++j) b[j] = load<4>(&b_tile[k][column(4 * j)]);
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] += a[i / 4].v[i % 4] * b[j / 4].v[j % 4];
        }
    }
#endif
};
