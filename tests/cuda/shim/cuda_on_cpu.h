// CUDA's language extensions for a C++ compiler: each CUDA thread runs on the CPU as a fiber (see runtime.cpp).
//
// Compiled with -fsanitize=thread but without its library: runtime.cpp answers the compiler's hooks, and so sees every load
// and store of a kernel.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define UNCHECKED __attribute__((no_sanitize("thread")))
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))

using std::max;
using std::min;

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

extern "C" {
const dim3 *cpu_index(int which);
void cpu_syncthreads();
int cpu_lane();
void cpu_exchange(unsigned mask, void *value, size_t size, int lane);
void cpu_gather(const void *value, size_t size, void *all);
int cpu_launch(const unsigned *grid, const unsigned *block, int schedule, void (*body)(void **), void **arguments);
}

#define gridDim (*cpu_index(0))
#define blockDim (*cpu_index(1))
#define blockIdx (*cpu_index(2))
#define threadIdx (*cpu_index(3))
#define __syncthreads() cpu_syncthreads()

template <class T> UNCHECKED T __shfl_xor_sync(unsigned mask, T value, int bits) {
    cpu_exchange(mask, &value, sizeof(T), cpu_lane() ^ bits);
    return value;
}

// The instructions of tensor_core.cuh, which says where the values lie. As the hardware does, the product ignores the bits
// of its factors that TF32 has not.
UNCHECKED inline float tf32_bits(float value, uint32_t half) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (std::isfinite(value)) bits += half;
    bits &= ~0x1fffu;
    memcpy(&value, &bits, sizeof bits);
    return value;
}
UNCHECKED inline float rounded_to_tf32(float value) { return tf32_bits(value, 0x1000); }

UNCHECKED inline void multiply_add_16x8x8(
    float &c0, float &c1, float &c2, float &c3, float a0, float a1, float a2, float a3, float b0, float b1) {
    const float mine[6] = {a0, a1, a2, a3, b0, b1};
    float all[32][6];
    cpu_gather(mine, sizeof mine, all);
    const int g = cpu_lane() / 4, t = cpu_lane() % 4;
    float *const sums[2][2] = {{&c0, &c1}, {&c2, &c3}};
    for (int i = 0; i < 2; ++i)
        for (int j = 0; j < 2; ++j)
            for (int k = 0; k < 8; ++k)
                *sums[i][j] += tf32_bits(all[4 * g + k % 4][k / 4 * 2 + i], 0) * tf32_bits(all[4 * (2 * t + j) + k % 4][4 + k / 4], 0);
}

// A kernel's arguments arrive as CUDA takes them: an array of pointers to the values.
template <class... A, size_t... I>
UNCHECKED void call_with(void (*kernel)(A...), void **arguments, std::index_sequence<I...>) {
    kernel(*static_cast<std::decay_t<A> *>(arguments[I])...);
}
template <class... A> UNCHECKED void call(void (*kernel)(A...), void **arguments) {
    call_with(kernel, arguments, std::index_sequence_for<A...>{});
}

#define EXPORT_KERNEL(name)                                                                                            \
    extern "C" UNCHECKED int launch_##name(const unsigned *grid, const unsigned *block, int schedule,                  \
                                           void **arguments) {                                                         \
        return cpu_launch(grid, block, schedule, [](void **values) { call(&name, values); }, arguments);               \
    }
