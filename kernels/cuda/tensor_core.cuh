// The two instructions of TF32, from compute capability 8.0 on. Where there is no GPU the tests bring their own.
#pragma once
#include "common.cuh"

#if TF32 && defined(__CUDACC__)
__device__ __forceinline__ float rounded_to_tf32(float value) {
    float rounded;
    asm("{ .reg .b32 r; cvt.rna.tf32.f32 r, %1; mov.b32 %0, r; }" : "=f"(rounded) : "f"(value));
    return rounded;
}

// c (16, 8) += a (16, 8) b (8, 8), all spread over a warp: of lane 4g + t are c (g, 2t), (g, 2t + 1), (g + 8, 2t),
// (g + 8, 2t + 1), a (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4), and b (t, g), (t + 4, g).
__device__ __forceinline__ void multiply_add_16x8x8(
    float &c0, float &c1, float &c2, float &c3, float a0, float a1, float a2, float a3, float b0, float b1) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
        : "r"(__float_as_uint(a0)), "r"(__float_as_uint(a1)), "r"(__float_as_uint(a2)), "r"(__float_as_uint(a3)),
          "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}
#endif

// Values as the product takes them.
template <int n> __device__ __forceinline__ Pack<n> factors(Pack<n> values) {
#if TF32
#pragma unroll
    for (int e = 0; e < n; ++e) values.v[e] = rounded_to_tf32(values.v[e]);
#endif
    return values;
}
