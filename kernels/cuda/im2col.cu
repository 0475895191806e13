// Patches as the rows of a matrix, and their adjoint. Symbols as in the definition of convolution: x (N, H, W, C), output
// pixels (Ho, Wo), kernel (Kh, Kw), columns (N*Ho*Wo, Kh*Kw*C).
#include "common.cuh"

// One thread VEC neighbouring channels of a patch; n = columns' size / VEC.
extern "C" __global__ void im2col(const REAL *x, REAL *columns, int H, int W, int C, int Ho, int Wo, int Kh, int Kw,
                                  int stride, int padding, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int packs = C / VEC;
        const int c = i % packs * VEC;
        long long rest = i / packs;
        const int b = rest % Kw;
        rest /= Kw;
        const int a = rest % Kh;
        rest /= Kh;
        const int q = rest % Wo, p = rest / Wo % Ho;
        const long long image = rest / Wo / Ho;
        const int h = p * stride - padding + a, w = q * stride - padding + b;
        Pack<VEC> values = {};
        if (0 <= h && h < H && 0 <= w && w < W) values = load<VEC>(x + ((image * H + h) * W + w) * C + c);
        store(columns + i * VEC, values);
    }
}

// Every pixel gathers the patch entries that were read from it: no atomics, a fixed order. n = dx's size / VEC.
extern "C" __global__ void col2im(const REAL *columns, REAL *dx, int H, int W, int C, int Ho, int Wo, int Kh, int Kw,
                                  int stride, int padding, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int packs = C / VEC;
        const int c = i % packs * VEC;
        const long long pixel = i / packs;
        const int w = pixel % W, h = pixel / W % H;
        const long long image = pixel / W / H;
        Pack<VEC> sums = {};
        for (int a = 0; a < Kh; ++a) {
            const int p = (h + padding - a) / stride;
            if (h + padding < a || p * stride != h + padding - a || p >= Ho) continue;
            for (int b = 0; b < Kw; ++b) {
                const int q = (w + padding - b) / stride;
                if (w + padding < b || q * stride != w + padding - b || q >= Wo) continue;
                const long long patch = (image * Ho + p) * Wo + q;
                const Pack<VEC> values = load<VEC>(columns + ((patch * Kh + a) * Kw + b) * C + c);
#pragma unroll
                for (int e = 0; e < VEC; ++e) sums.v[e] += values.v[e];
            }
        }
        store(dx + i * VEC, sums);
    }
}
