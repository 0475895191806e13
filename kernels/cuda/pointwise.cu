// Operations on single elements and on whole feature maps. Flat kernels work on n packs of VEC values.
#include "common.cuh"

// y = a + b
extern "C" __global__ void add(const REAL *a, const REAL *b, REAL *y, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        Pack<VEC> sum = load<VEC>(a + i * VEC);
        const Pack<VEC> other = load<VEC>(b + i * VEC);
#pragma unroll
        for (int e = 0; e < VEC; ++e) sum.v[e] += other.v[e];
        store(y + i * VEC, sum);
    }
}

// y = max(x, 0); NaN stays NaN
extern "C" __global__ void relu(const REAL *x, REAL *y, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        Pack<VEC> values = load<VEC>(x + i * VEC);
#pragma unroll
        for (int e = 0; e < VEC; ++e) values.v[e] = values.v[e] <= 0 ? REAL(0) : values.v[e];
        store(y + i * VEC, values);
    }
}

// dx = dy where y > 0, else 0
extern "C" __global__ void relu_grad(const REAL *dy, const REAL *y, REAL *dx, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        Pack<VEC> gradient = load<VEC>(dy + i * VEC);
        const Pack<VEC> output = load<VEC>(y + i * VEC);
#pragma unroll
        for (int e = 0; e < VEC; ++e) gradient.v[e] = output.v[e] > 0 ? gradient.v[e] : REAL(0);
        store(dx + i * VEC, gradient);
    }
}

// y = x where x > 0, else slope * x; NaN stays NaN
extern "C" __global__ void leaky_relu(const REAL *x, REAL *y, REAL slope, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        Pack<VEC> values = load<VEC>(x + i * VEC);
#pragma unroll
        for (int e = 0; e < VEC; ++e) values.v[e] = values.v[e] > 0 ? values.v[e] : slope * values.v[e];
        store(y + i * VEC, values);
    }
}

// dx = dy where y > 0, else slope * dy
extern "C" __global__ void leaky_relu_grad(const REAL *dy, const REAL *y, REAL *dx, REAL slope, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        Pack<VEC> gradient = load<VEC>(dy + i * VEC);
        const Pack<VEC> output = load<VEC>(y + i * VEC);
#pragma unroll
        for (int e = 0; e < VEC; ++e) gradient.v[e] = output.v[e] > 0 ? gradient.v[e] : slope * gradient.v[e];
        store(dx + i * VEC, gradient);
    }
}

// Output i of SplitMix64 started at seed (Steele, Lea and Flood, 2014); the generator's state is i + 1 steps on.
__device__ __forceinline__ unsigned long long splitmix64(unsigned long long seed, unsigned long long i) {
    unsigned long long state = (i + 1) * 0x9E3779B97F4A7C15ull + seed;
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9ull;
    state = (state ^ (state >> 27)) * 0x94D049BB133111EBull;
    return state ^ (state >> 31);
}

// y = x * scale, or 0 where the element's 32 random bits fall below the threshold (up to 2^32, so 64 bits wide).
// The seed lies in device memory, so that a recorded step draws a new mask each time it is replayed.
extern "C" __global__ void dropout(const REAL *x, REAL *y, const unsigned long long *seed, unsigned long long threshold,
                                   REAL scale, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const unsigned long long bits = splitmix64(*seed, i) >> 32;
        y[i] = bits >= threshold ? x[i] * scale : REAL(0);
    }
}

// Every stride-th pixel of x (N, H, W, C) in y (N, Ho, Wo, K), channels C..K zero. n = N*Ho*Wo*K.
extern "C" __global__ void subsample(const REAL *x, REAL *y, int H, int W, int C, int Ho, int Wo, int K, int stride,
                                     long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int k = i % K;
        const long long pixel = i / K;
        const int q = pixel % Wo, p = pixel / Wo % Ho;
        const long long image = pixel / Wo / Ho;
        y[i] = k < C ? x[((image * H + p * stride) * W + q * stride) * C + k] : REAL(0);
    }
}

// Adjoint of subsample: dx (N, H, W, C), zero at the pixels that were left out. n = N*H*W*C.
extern "C" __global__ void subsample_grad(const REAL *dy, REAL *dx, int H, int W, int C, int Ho, int Wo, int K,
                                          int stride, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const int w = pixel % W, h = pixel / W % H;
        const long long image = pixel / W / H;
        const bool picked = h % stride == 0 && w % stride == 0 && c < K;
        dx[i] = picked ? dy[((image * Ho + h / stride) * Wo + w / stride) * K + c] : REAL(0);
    }
}
