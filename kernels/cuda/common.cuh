// What every kernel file shares. The loader defines REAL (float or double) and, where a kernel reads and writes several
// neighbouring values at once, VEC (1 or 4).
#pragma once

// n values that lie together and are read or written by one instruction.
template <int n> struct alignas(n * sizeof(REAL)) Pack {
    REAL v[n];
};

template <int n> __device__ __forceinline__ Pack<n> load(const REAL *from) {
    return *reinterpret_cast<const Pack<n> *>(from);
}

template <int n> __device__ __forceinline__ void store(REAL *to, const Pack<n> &values) {
    *reinterpret_cast<Pack<n> *>(to) = values;
}

// Index of this thread in the grid, and the number of threads: for loops over arrays of any length.
__device__ __forceinline__ long long first_index() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
__device__ __forceinline__ long long grid_size() { return (long long)gridDim.x * blockDim.x; }
