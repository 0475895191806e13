// Batch normalisation over the rows of x (rows, C): Ioffe and Szegedy (2015), arXiv:1502.03167.
//
//     x_hat = (x - mean) / sqrt(var + eps)          y = gamma * x_hat + beta
//
// All kernels over the rows run in blocks of (lanes, threads along rows), so a thread keeps its channels' constants in
// registers; see reduce.cuh.
#include "reduce.cuh"

// Stage 1 of the statistics: partial (gridDim.y, 2, C), the sums of d and of d^2, where d = x - x[first row]. Subtracting any
// row keeps the squares from cancelling where the mean is large.
extern "C" __global__ void moments(const REAL *x, REAL *partial, long long rows, int C) {
    const int c = first_channel();
    REAL sums[2 * VEC] = {};
    if (c < C) {
        const Pack<VEC> pivot = load<VEC>(x + c);
        for (long long row = first_row(); row < rows; row += row_step()) {
            const Pack<VEC> values = load<VEC>(x + row * C + c);
#pragma unroll
            for (int e = 0; e < VEC; ++e) {
                const REAL d = values.v[e] - pivot.v[e];
                sums[e] += d;
                sums[VEC + e] += d * d;
            }
        }
    }
    store_pair(sums, partial, C);
}

// Stage 2: mean and biased variance from `parts` partial sums. Blocks of (lanes, threads along parts).
extern "C" __global__ void finish_moments(const REAL *x, const REAL *partial, REAL *mean, REAL *var, int parts,
                                          long long rows, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    const double sum = sum_parts(partial + c, c < C, parts, 2LL * C) / rows;
    const double squares = sum_parts(partial + C + c, c < C, parts, 2LL * C) / rows;
    if (threadIdx.y == 0 && c < C) {
        mean[c] = REAL(x[c] + sum);
        var[c] = REAL(squares > sum * sum ? squares - sum * sum : 0.0);
    }
}

// Mean and biased variance from the sums that convolutions write (epilogue.cuh, MOMENTS): partial (parts, 3, C), each part
// of `part_rows` rows but for the last one. All pivots are moved to the first.
extern "C" __global__ void merge_moments(const REAL *partial, REAL *mean, REAL *var, int parts, int part_rows,
                                         long long rows, int C) {
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    double sum = 0, squares = 0;
    if (c < C)
#pragma unroll 4
        for (int part = threadIdx.y; part < parts; part += blockDim.y) {
            const REAL *terms = partial + part * 3LL * C + c;
            const double away = (double)terms[0] - partial[c];
            const double count = min((long long)part_rows, rows - (long long)part * part_rows);
            sum += terms[C] + count * away;
            squares += terms[2 * C] + away * (2.0 * terms[C] + count * away);
        }
    sum = sum_over_lane(sum) / rows;
    squares = sum_over_lane(squares) / rows;
    if (threadIdx.y == 0 && c < C) {
        mean[c] = REAL(partial[c] + sum);
        var[c] = REAL(squares > sum * sum ? squares - sum * sum : 0.0);
    }
}

// y = gamma * x_hat + beta, + residual unless that is null, cut off below zero if `relu`.
extern "C" __global__ void normalise(const REAL *x, const REAL *mean, const REAL *var, const REAL *gamma,
                                     const REAL *beta, const REAL *residual, REAL *y, REAL eps, int relu,
                                     long long rows, int C) {
    const int c = first_channel();
    if (c >= C) return;
    REAL centre[VEC], scale[VEC], shift[VEC];
#pragma unroll
    for (int e = 0; e < VEC; ++e) {
        centre[e] = mean[c + e];
        scale[e] = gamma[c + e] / sqrt(var[c + e] + eps);
        shift[e] = beta[c + e];
    }
    for (long long row = first_row(); row < rows; row += row_step()) {
        Pack<VEC> values = load<VEC>(x + row * C + c);
#pragma unroll
        for (int e = 0; e < VEC; ++e) values.v[e] = (values.v[e] - centre[e]) * scale[e] + shift[e];
        if (residual) {
            const Pack<VEC> other = load<VEC>(residual + row * C + c);
#pragma unroll
            for (int e = 0; e < VEC; ++e) values.v[e] += other.v[e];
        }
        if (relu)
#pragma unroll
            for (int e = 0; e < VEC; ++e) values.v[e] = values.v[e] <= 0 ? REAL(0) : values.v[e];
        store(y + row * C + c, values);
    }
}

// Stage 1 of the gradients' sums: partial (gridDim.y, 2, C), the sums of dy and of dy * x_hat.
extern "C" __global__ void gradient_sums(const REAL *dy, const REAL *x, const REAL *mean, const REAL *var,
                                         REAL *partial, REAL eps, long long rows, int C) {
    const int c = first_channel();
    REAL sums[2 * VEC] = {};
    if (c < C) {
        REAL centre[VEC], scale[VEC];
#pragma unroll
        for (int e = 0; e < VEC; ++e) {
            centre[e] = mean[c + e];
            scale[e] = REAL(1) / sqrt(var[c + e] + eps);
        }
        for (long long row = first_row(); row < rows; row += row_step()) {
            const Pack<VEC> gradient = load<VEC>(dy + row * C + c);
            const Pack<VEC> values = load<VEC>(x + row * C + c);
#pragma unroll
            for (int e = 0; e < VEC; ++e) {
                sums[e] += gradient.v[e];
                sums[VEC + e] += gradient.v[e] * ((values.v[e] - centre[e]) * scale[e]);
            }
        }
    }
    store_pair(sums, partial, C);
}

// dx = gamma / sqrt(var + eps) * (dy - dbeta / rows - x_hat * dgamma / rows); mean and var depend on x.
extern "C" __global__ void input_grad(const REAL *dy, const REAL *x, const REAL *mean, const REAL *var,
                                      const REAL *gamma, const REAL *dgamma, const REAL *dbeta, REAL *dx, REAL eps,
                                      long long rows, int C) {
    const int c = first_channel();
    if (c >= C) return;
    REAL centre[VEC], scale[VEC], factor[VEC], slope[VEC], offset[VEC];
#pragma unroll
    for (int e = 0; e < VEC; ++e) {
        centre[e] = mean[c + e];
        scale[e] = REAL(1) / sqrt(var[c + e] + eps);
        factor[e] = gamma[c + e] * scale[e];
        slope[e] = dgamma[c + e] / REAL(rows) * scale[e];
        offset[e] = dbeta[c + e] / REAL(rows);
    }
    for (long long row = first_row(); row < rows; row += row_step()) {
        Pack<VEC> gradient = load<VEC>(dy + row * C + c);
        const Pack<VEC> values = load<VEC>(x + row * C + c);
#pragma unroll
        for (int e = 0; e < VEC; ++e)
            gradient.v[e] = factor[e] * (gradient.v[e] - offset[e] - (values.v[e] - centre[e]) * slope[e]);
        store(dx + row * C + c, gradient);
    }
}

// dx = gamma / sqrt(var + eps) * dy; mean and var are constants.
extern "C" __global__ void fixed_input_grad(const REAL *dy, const REAL *var, const REAL *gamma, REAL *dx, REAL eps,
                                            long long rows, int C) {
    const int c = first_channel();
    if (c >= C) return;
    REAL factor[VEC];
#pragma unroll
    for (int e = 0; e < VEC; ++e) factor[e] = gamma[c + e] / sqrt(var[c + e] + eps);
    for (long long row = first_row(); row < rows; row += row_step()) {
        Pack<VEC> gradient = load<VEC>(dy + row * C + c);
#pragma unroll
        for (int e = 0; e < VEC; ++e) gradient.v[e] *= factor[e];
        store(dx + row * C + c, gradient);
    }
}
