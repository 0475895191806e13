// CUDA's language extensions for a C++ compiler: each CUDA thread runs on the CPU as a fiber (see runtime.cpp).
//
// Compiled with -fsanitize=thread but without its library: runtime.cpp answers the compiler's hooks, and so sees every load
// and store of a kernel.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
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
