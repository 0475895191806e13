// Images of another size. One thread a value of y (n, Ho, Wo, C).
#include "common.cuh"

// The two of `before` pixels around pixel p of `after`, and the weight of the upper one. In double precision, since far
// from the edge a float has few digits left behind the point.
struct Neighbours {
    int low, high;
    REAL weight;
};

__device__ __forceinline__ Neighbours neighbours(int p, int before, int after) {
    const double centre = (p + 0.5) * ((double)before / after) - 0.5;
    const double position = centre < 0 ? 0 : centre > before - 1 ? before - 1 : centre;
    const int low = (int)position;
    return {low, low + 1 < before ? low + 1 : low, (REAL)(position - low)};
}

extern "C" __global__ void resize_bilinear(const REAL *x, REAL *y, int H, int W, int C, int Ho, int Wo, long long values) {
    for (long long i = first_index(); i < values; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const Neighbours down = neighbours(pixel / Wo % Ho, H, Ho), across = neighbours(pixel % Wo, W, Wo);
        const REAL *image = x + pixel / Wo / Ho * H * W * C + c;
        const REAL *top = image + (long long)down.low * W * C, *bottom = image + (long long)down.high * W * C;
        const long long left = (long long)across.low * C, right = (long long)across.high * C;
        const REAL before = top[left] + (bottom[left] - top[left]) * down.weight;
        const REAL behind = top[right] + (bottom[right] - top[right]) * down.weight;
        y[i] = before + (behind - before) * across.weight;
    }
}

// What pixels p of `after` and q of `before` have in common, in units of which all pixels have before * after.
__device__ __forceinline__ REAL common(int p, int q, int before, int after) {
    return min((p + 1) * before, (q + 1) * after) - max(p * before, q * after);
}

extern "C" __global__ void resize_area(const REAL *x, REAL *y, int H, int W, int C, int Ho, int Wo, long long values) {
    for (long long i = first_index(); i < values; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const int p = pixel / Wo % Ho, q = pixel % Wo;
        const REAL *image = x + pixel / Wo / Ho * H * W * C + c;
        REAL sum = 0;
        for (int h = p * H / Ho; h * Ho < (p + 1) * H; h++) {
            REAL row = 0;
            for (int w = q * W / Wo; w * Wo < (q + 1) * W; w++)
                row += image[((long long)h * W + w) * C] * common(q, w, W, Wo);
            sum += row * common(p, h, H, Ho);
        }
        y[i] = sum / ((REAL)H * W);
    }
}
