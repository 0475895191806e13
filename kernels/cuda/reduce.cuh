// Sums over the rows of a matrix (rows, C), in two stages and a fixed order, so that they never differ between runs.
//
// Stage 1: blocks of (lanes, threads along rows); lane l holds the VEC channels from (blockIdx.x * lanes + l) * VEC on, and
// the blockIdx.y-th block takes every gridDim.y-th group of rows. Each block writes one row of partial sums.
// Stage 2: the partial sums are added in double precision.
#pragma once
#include "common.cuh"

const int THREADS = 256;  // of every block of stage 1

// The first channel of this thread; it has none if the result is C or more.
__device__ __forceinline__ int first_channel() { return (blockIdx.x * blockDim.x + threadIdx.x) * VEC; }

// The rows of this thread.
__device__ __forceinline__ long long first_row() { return (long long)blockIdx.y * blockDim.y + threadIdx.y; }
__device__ __forceinline__ long long row_step() { return (long long)gridDim.y * blockDim.y; }

// Adds up each of the first `count` (at most 2 * VEC) sums over the threads of one lane; the threads with threadIdx.y == 0 get
// the results.
__device__ __forceinline__ void sum_over_rows(REAL *sums, int count) {
    __shared__ REAL shared[2 * VEC][THREADS];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
#pragma unroll
    for (int k = 0; k < count; ++k) shared[k][thread] = sums[k];
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
#pragma unroll
            for (int k = 0; k < count; ++k) shared[k][thread] += shared[k][thread + half * blockDim.x];
        __syncthreads();
    }
#pragma unroll
    for (int k = 0; k < count; ++k) sums[k] = shared[k][thread];
}

// Adds up two sums of VEC channels over the threads of one lane and writes them to partial (gridDim.y, 2, C).
__device__ __forceinline__ void store_pair(REAL (&sums)[2 * VEC], REAL *partial, int C) {
    const int c = first_channel();
    sum_over_rows(sums, 2 * VEC);
    if (threadIdx.y == 0 && c < C)
#pragma unroll
        for (int e = 0; e < VEC; ++e) {
            partial[blockIdx.y * 2LL * C + c + e] = sums[e];
            partial[blockIdx.y * 2LL * C + C + c + e] = sums[VEC + e];
        }
}

// Stage 2: adds up a sum over the threads of one lane of a block (lanes, y). Every thread of the block must call it; the
// threads with threadIdx.y == 0 get the result.
__device__ __forceinline__ double sum_over_lane(double sum) {
    __shared__ double shared[THREADS];
    const int thread = threadIdx.y * blockDim.x + threadIdx.x;
    __syncthreads();  // a sum before this one may still be read
    shared[thread] = sum;
    __syncthreads();
    for (int half = blockDim.y / 2; half > 0; half /= 2) {
        if (threadIdx.y < half) shared[thread] += shared[thread + half * blockDim.x];
        __syncthreads();
    }
    return shared[thread];
}

// Stage 2 for one column: the sum of column[part * stride] over all parts.
__device__ __forceinline__ double sum_parts(const REAL *column, bool valid, int parts, long long stride) {
    double sum = 0;
    if (valid)
#pragma unroll 8
        for (int part = threadIdx.y; part < parts; part += blockDim.y) sum += column[part * stride];
    return sum_over_lane(sum);
}
