// Where rows, columns and reduction steps of the matrix product behind a convolution lie in the arrays. Symbols as in the
// definition of convolution: x (N, H, W, C), y (N, Ho, Wo, K), kernel (Kh, Kw).
#pragma once
#include "common.cuh"

#define FORWARD 0
#define INPUT_GRAD 1
#define WEIGHT_GRAD 2

// n / divisor for 0 <= n < 2^31 by a multiplication (Granlund and Montgomery, 1994): an address takes several.
struct Divisor {
    unsigned multiplier, shift;
    __device__ int quotient(int n) const { return (int)((unsigned long long)(unsigned)n * multiplier >> shift); }
};

// Sizes, and divisors by some of them; handed over by value, so that they take no registers. rows and cols are those of a
// group of pixels, channels those of what the left matrix is gathered from.
struct Geometry {
    int images, H, W, C, Ho, Wo, K, Kh, Kw, stride, padding, rows, cols, channels;
    Divisor over_rows, over_cols, over_channels, over_taps;
};

struct Pixel {
    int image, h, w;
};

// A place (a, b) in the kernel and a channel.
struct Tap {
    int a, b, channel;
};

// Pixels of an input gradient that lie `stride` apart are reached by the same taps, every stride-th one, and by no others.
// So the pixels fall into stride * stride groups, each with a shorter reduction of its own; a block works for one group.
// The other passes are one group of all output pixels and all taps.
struct Group {
    int h, w;            // the first pixel
    int a, b;            // the first tap
    int taps_a, taps_b;  // their number

    __device__ Group(const Geometry &g, int index) {
#if PASS == INPUT_GRAD
        h = index / g.stride;
        w = index % g.stride;
        a = (h + g.padding) % g.stride;
        b = (w + g.padding) % g.stride;
        taps_a = a < g.Kh ? (g.Kh - a + g.stride - 1) / g.stride : 0;
        taps_b = b < g.Kw ? (g.Kw - b + g.stride - 1) / g.stride : 0;
#else
        h = w = a = b = 0;
        taps_a = g.Kh;
        taps_b = g.Kw;
#endif
    }
};

// The product as a block sees it.
struct Problem {
    const Geometry &g;
    const Group group;

    __device__ Problem(const Geometry &g, int index) : g(g), group(g, index) {}

    // The m-th of the group's pixels; its image does not exist beyond the last one.
    __device__ Pixel pixel(int m) const {
        const int line = g.over_cols.quotient(m), image = g.over_rows.quotient(line);
        return {image, line - image * g.rows, m - line * g.cols};
    }

    // The r-th of the group's taps' channels, counted in the group.
    __device__ Tap tap(int r) const {
        const int tap = g.over_channels.quotient(r);
        const bool all = PASS != INPUT_GRAD || g.stride == 1;
        const int taps = all ? g.Kw : max(group.taps_b, 1), a = all ? g.over_taps.quotient(tap) : tap / taps;
        return {a, tap - a * taps, r - tap * g.channels};
    }

    // Row of the result for the m-th of the group's rows; -1 if there is none.
    __device__ int row(int m) const {
#if PASS == WEIGHT_GRAD
        return m < g.Kh * g.Kw * g.C ? m : -1;
#else
        if (PASS == FORWARD || g.stride == 1) return m < g.images * g.rows * g.cols ? m : -1;
        const Pixel p = pixel(m);
        const int h = p.h * g.stride + group.h, w = p.w * g.stride + group.w;
        return p.image < g.images && h < g.H && w < g.W ? (p.image * g.H + h) * g.W + w : -1;
#endif
    }
};
