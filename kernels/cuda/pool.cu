// Pooling over the pixels of x (N, H, W, C). One thread an element of the result.
#include "common.cuh"

// Largest value of every size x size window in y (N, Ho, Wo, C), and its position, the first of equals. A NaN is the largest.
extern "C" __global__ void max_pool(const REAL *x, REAL *y, unsigned char *where, int H, int W, int C, int Ho, int Wo,
                                    int size, int stride, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const int q = pixel % Wo, p = pixel / Wo % Ho;
        const long long image = pixel / Wo / Ho;
        const REAL *window = x + ((image * H + p * stride) * W + q * stride) * C + c;
        REAL largest = window[0];
        int position = 0;
        for (int a = 0; a < size; ++a)
            for (int b = 0; b < size; ++b) {
                const REAL value = window[((long long)a * W + b) * C];
                if (value > largest || (value != value && largest == largest)) {
                    largest = value;
                    position = a * size + b;
                }
            }
        y[i] = largest;
        where[i] = position;
    }
}

// dx: every dy goes to the pixel that held its window's maximum. Each pixel gathers from the windows it lies in.
extern "C" __global__ void max_pool_grad(const REAL *dy, const unsigned char *where, REAL *dx, int H, int W, int C,
                                         int Ho, int Wo, int size, int stride, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const int w = pixel % W, h = pixel / W % H;
        const long long image = pixel / W / H;
        const int p_first = h < size ? 0 : (h - size) / stride + 1, p_last = min(h / stride, Ho - 1);
        const int q_first = w < size ? 0 : (w - size) / stride + 1, q_last = min(w / stride, Wo - 1);
        REAL sum = 0;
        for (int p = p_first; p <= p_last; ++p)
            for (int q = q_first; q <= q_last; ++q) {
                const long long window = ((image * Ho + p) * Wo + q) * C + c;
                if (where[window] == (h - p * stride) * size + w - q * stride) sum += dy[window];
            }
        dx[i] = sum;
    }
}

// y (N, Ho, Wo, C): the mean over every size x size window.
extern "C" __global__ void avg_pool(const REAL *x, REAL *y, int H, int W, int C, int Ho, int Wo, int size, int stride,
                                    long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const int q = pixel % Wo, p = pixel / Wo % Ho;
        const long long image = pixel / Wo / Ho;
        const REAL *window = x + ((image * H + p * stride) * W + q * stride) * C + c;
        REAL sum = 0;
        for (int a = 0; a < size; ++a)
            for (int b = 0; b < size; ++b) sum += window[((long long)a * W + b) * C];
        y[i] = sum / REAL(size * size);
    }
}

// dx: every dy / size^2 goes to all pixels of its window. Each pixel gathers from the windows it lies in.
extern "C" __global__ void avg_pool_grad(const REAL *dy, REAL *dx, int H, int W, int C, int Ho, int Wo, int size,
                                         int stride, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const int c = i % C;
        const long long pixel = i / C;
        const int w = pixel % W, h = pixel / W % H;
        const long long image = pixel / W / H;
        const int p_first = h < size ? 0 : (h - size) / stride + 1, p_last = min(h / stride, Ho - 1);
        const int q_first = w < size ? 0 : (w - size) / stride + 1, q_last = min(w / stride, Wo - 1);
        REAL sum = 0;
        for (int p = p_first; p <= p_last; ++p)
            for (int q = q_first; q <= q_last; ++q) sum += dy[((image * Ho + p) * Wo + q) * C + c];
        dx[i] = sum / REAL(size * size);
    }
}

// y (N, C): the mean over the pixels of every channel. n = N*C.
extern "C" __global__ void global_avg_pool(const REAL *x, REAL *y, int pixels, int C, long long n) {
    for (long long i = first_index(); i < n; i += grid_size()) {
        const REAL *image = x + i / C * pixels * C + i % C;
        REAL sum = 0;
        for (int pixel = 0; pixel < pixels; ++pixel) sum += image[(long long)pixel * C];
        y[i] = sum / REAL(pixels);
    }
}

// dx (N, pixels, C) = dy (N, C) / pixels. n = N*pixels*C.
extern "C" __global__ void global_avg_pool_grad(const REAL *dy, REAL *dx, int pixels, int C, long long n) {
    for (long long i = first_index(); i < n; i += grid_size())
        dx[i] = dy[i / C / pixels * C + i % C] / REAL(pixels);
}
