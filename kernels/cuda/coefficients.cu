// Batch norm's arithmetic on single channels, each in one launch: a thread a channel, of arrays (C,).
#include "common.cuh"

// Batch norm as scale * x + shift.
extern "C" __global__ void norm_coefficients(const REAL *mean, const REAL *var, const REAL *gamma, const REAL *beta,
                                             REAL *scale, REAL *shift, REAL eps, int C) {
    const int c = first_index();
    if (c >= C) return;
    scale[c] = gamma[c] / sqrt(var[c] + eps);
    shift[c] = beta[c] - mean[c] * scale[c];
}

// Its gradient as p * dy + q * x + r; sums (2, C): of dy and of dy * (x - mean), over m rows. In double precision, since r
// is a difference.
extern "C" __global__ void gradient_coefficients(const double *sums, const REAL *mean, const REAL *var, const REAL *gamma,
                                                 REAL *p, REAL *q, REAL *r, REAL *dgamma, REAL *dbeta, double eps,
                                                 double m, int C) {
    const int c = first_index();
    if (c >= C) return;
    const double rstd = 1 / sqrt((double)var[c] + eps), slope = sums[C + c] * rstd;
    const double factor = gamma[c] * rstd, linear = -factor * slope * rstd / m;
    p[c] = REAL(factor);
    q[c] = REAL(linear);
    r[c] = REAL(-factor * sums[c] / m - linear * mean[c]);
    dgamma[c] = REAL(slope);
    dbeta[c] = REAL(sums[c]);
}

// Running statistics, in place.
extern "C" __global__ void move_statistics(REAL *running_mean, REAL *running_var, const REAL *mean, const REAL *var,
                                           REAL decay, REAL rest, REAL unbiased_rest, int C) {
    const int c = first_index();
    if (c >= C) return;
    running_mean[c] = decay * running_mean[c] + rest * mean[c];
    running_var[c] = decay * running_var[c] + unbiased_rest * var[c];
}
