// Batch norm, ReLU and their gradient as single passes over the rows of matrices (rows, C), where no convolution takes them
// along. Blocks of (lanes, threads along rows); see reduce.cuh.
#include "reduce.cuh"
#include "source.cuh"

// The array that a recipe stands for (READS as in source.cuh), plus residual unless that is null, cut off below zero.
extern "C" __global__ void materialise(Source source, const REAL *residual, REAL *out, long long rows, int C) {
    const int c = first_channel();
    if (c >= C) return;
    Recipe<READS, VEC> recipe;
    recipe.fetch(source, c);
    for (long long row = first_row(); row < rows; row += row_step()) {
        const long long at = row * C + c;
        Pack<VEC> values = load<VEC>(source.values + at), others = {};
        if (READS == GRADIENT) others = load<VEC>(source.others + at);
        if (residual) {
            const Pack<VEC> other = load<VEC>(residual + at);
#pragma unroll
            for (int e = 0; e < VEC; ++e)
                values.v[e] = rectified(affine(values.v[e], recipe.scale.v[e], recipe.shift.v[e]) + other.v[e]);
        } else
            values = recipe.apply(values, others, true);
        store(out + at, values);
    }
}

// dz = da [+ skip] where the layer below is positive, else 0: where a is, or scale * y + shift if a is null. partial
// (gridDim.y, 2, C): the sums of dz and of dz * (y - mean), the latter zero if y is null.
extern "C" __global__ void relu_mask(const REAL *da, const REAL *y, const REAL *mean, const REAL *scale, const REAL *shift,
                                     const REAL *a, const REAL *skip, REAL *dz, REAL *partial, long long rows, int C) {
    const int c = first_channel();
    REAL sums[2 * VEC] = {};
    if (c < C) {
        Pack<VEC> centre = {}, factor = {}, offset = {};
        if (y) centre = load<VEC>(mean + c);
        if (!a) {
            factor = load<VEC>(scale + c);
            offset = load<VEC>(shift + c);
        }
        for (long long row = first_row(); row < rows; row += row_step()) {
            const long long at = row * C + c;
            Pack<VEC> gradient = load<VEC>(da + at), values = {}, output = {}, other = {};
            if (y) values = load<VEC>(y + at);
            if (a) output = load<VEC>(a + at);
            if (skip) other = load<VEC>(skip + at);
#pragma unroll
            for (int e = 0; e < VEC; ++e) {
                const REAL positive = a ? output.v[e] : affine(values.v[e], factor.v[e], offset.v[e]);
                gradient.v[e] = positive > 0 ? gradient.v[e] + other.v[e] : REAL(0);
                sums[e] += gradient.v[e];
                sums[VEC + e] += gradient.v[e] * (values.v[e] - centre.v[e]);
            }
            store(dz + at, gradient);
        }
    }
    store_pair(sums, partial, C);
}
