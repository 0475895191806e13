// Softmax followed by cross-entropy. One block; a warp takes every (blockDim.x / 32)-th row, so the sums have a fixed order.
#include "common.cuh"

const unsigned FULL = 0xffffffffu;
const int WARPS = 8;

// totals: the sum of -log softmax(logits)[label], and the rows whose first largest logit is the label's.
// dlogits = (softmax(logits) - one_hot(labels)) / N: the gradient of the mean.
extern "C" __global__ void __launch_bounds__(256) softmax_cross_entropy(const REAL *logits, const long long *labels,
                                                                        REAL *dlogits, double *totals, int N, int K) {
    __shared__ double losses[WARPS], hits[WARPS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    double loss = 0, correct = 0;
    for (int n = warp; n < N; n += blockDim.x / 32) {
        const REAL *row = logits + (long long)n * K;
        const long long label = labels[n];
        // The largest logit, with the smallest index where several are equal.
        REAL largest = row[0];
        int argmax = 0;
        for (int k = lane; k < K; k += 32)
            if (row[k] > largest || (row[k] == largest && k < argmax)) {
                largest = row[k];
                argmax = k;
            }
#pragma unroll
        for (int step = 16; step > 0; step /= 2) {
            const REAL other = __shfl_xor_sync(FULL, largest, step);
            const int other_argmax = __shfl_xor_sync(FULL, argmax, step);
            if (other > largest || (other == largest && other_argmax < argmax)) {
                largest = other;
                argmax = other_argmax;
            }
        }
        REAL normaliser = 0;
        for (int k = lane; k < K; k += 32) normaliser += exp(row[k] - largest);
#pragma unroll
        for (int step = 16; step > 0; step /= 2) normaliser += __shfl_xor_sync(FULL, normaliser, step);
        for (int k = lane; k < K; k += 32)
            dlogits[(long long)n * K + k] = (exp(row[k] - largest) / normaliser - REAL(k == label)) / REAL(N);
        // A label outside the classes has no loss; NaN shows it without a look at the host's side.
        const bool known = 0 <= label && label < K;
        loss += known ? double(log(normaliser) - (row[known ? label : 0] - largest)) : nan("");
        correct += argmax == label;
    }
    if (lane == 0) {
        losses[warp] = loss;
        hits[warp] = correct;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        loss = correct = 0;
        for (int w = 0; w < blockDim.x / 32; ++w) {
            loss += losses[w];
            correct += hits[w];
        }
        totals[0] = loss;
        totals[1] = correct;
    }
}
