// What a convolution reads: an array, or the recipe for one that is never stored.
#pragma once
#include "common.cuh"

#define ARRAY 0       // values
#define NORMALISED 1  // relu(scale * values + shift)
#define GRADIENT 2    // scale * values + slope * others + shift

// values, others (..., C), scale, slope, shift (C,); handed over by value.
struct Source {
    const REAL *values, *others, *scale, *slope, *shift;
};

// Exactly one rounding, so that forward and backward agree about what is positive.
__device__ __forceinline__ REAL affine(REAL value, REAL scale, REAL shift) { return fma(scale, value, shift); }

// max(value, 0); NaN stays NaN
__device__ __forceinline__ REAL rectified(REAL value) { return value <= 0 ? REAL(0) : value; }

// The recipe's coefficients for n neighbouring channels.
template <int reads, int n> struct Recipe {
    Pack<n> scale, slope, shift;

    __device__ void fetch(const Source &source, int channel) {
        if constexpr (reads != ARRAY) {
            scale = load<n>(source.scale + channel);
            shift = load<n>(source.shift + channel);
        }
        if constexpr (reads == GRADIENT) slope = load<n>(source.slope + channel);
    }

    // What stands at a place that holds these values; zero where the place is not covered: outside the image or the matrix.
    __device__ Pack<n> apply(Pack<n> values, const Pack<n> &others, bool covered) const {
        if constexpr (reads != ARRAY)
#pragma unroll
            for (int e = 0; e < n; ++e) {
                if constexpr (reads == NORMALISED)
                    values.v[e] = rectified(affine(values.v[e], scale.v[e], shift.v[e]));
                else
                    values.v[e] = affine(values.v[e], scale.v[e], affine(others.v[e], slope.v[e], shift.v[e]));
                if (!covered) values.v[e] = 0;
            }
        return values;
    }
};

// What is on its way from memory to a tile: packs as they were read, and which of them are covered.
template <int reads, int n, int loads> struct Staged {
    static_assert(loads <= 32, "one bit a load");
    Pack<n> values[loads], others[reads == GRADIENT ? loads : 1];
    unsigned covered;

    __device__ void clear() { covered = 0; }

    __device__ void fetch(int l, const Source &source, int at, bool inside) {
        values[l] = {};
        if constexpr (reads == GRADIENT) others[l] = {};
        if (!inside) return;
        values[l] = load<n>(source.values + at);
        if constexpr (reads == GRADIENT) others[l] = load<n>(source.others + at);
        covered |= 1u << l;
    }

    __device__ Pack<n> get(int l, const Recipe<reads, n> &recipe) const {
        return recipe.apply(values[l], others[reads == GRADIENT ? l : 0], covered >> l & 1);
    }
};
