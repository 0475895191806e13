// Convolution as a matrix product whose left matrix, the patches, is never in memory: each block gathers the tile it needs.
//
//     PASS           result (M, N)         reduction R
//     FORWARD        y  (N*Ho*Wo, K)       Kh*Kw*C
//     INPUT_GRAD     dx (N*H*W, C)         Kh*Kw*K
//     WEIGHT_GRAD    dw (Kh*Kw*C, K)       N*Ho*Wo
//
// A block computes a tile of BM x BN results, a thread TM x TN of them, from slices of BK reduction steps that pass through
// shared memory in two buffers: while one is multiplied the next is on its way in registers. blockIdx.z takes its part
// of the reduction; with several parts the results are partial sums (gridDim.z, M, N), to be added afterwards.
//
// The loader defines PASS, BM, BN, BK, TM, TN, how many neighbouring values are moved at once (VEC_LEFT, VEC_RIGHT, VEC_OUT),
// what is read (LEFT_READS, RIGHT_READS; see source.cuh), whether tensor cores multiply (TF32; see multiply.cuh), and what
// becomes of the results (EPILOGUE; see epilogue.cuh).
#include "epilogue.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) implicit_gemm(
    Source left_source, Source right_source, const REAL *bias, BackwardEpilogue below, REAL *out, REAL *partial, Geometry g,
    int reduction_part) {
    alignas(4 * sizeof(REAL)) __shared__ REAL left_tile[2][BK][BM + PADDING];
    alignas(4 * sizeof(REAL)) __shared__ REAL right_tile[2][BK][BN + PADDING];

    const int groups = PASS == INPUT_GRAD ? g.stride * g.stride : 1;
    const int group = blockIdx.x / (gridDim.x / groups), m_first = blockIdx.x % (gridDim.x / groups) * BM;
    const Problem problem(g, group);
    const int N = PASS == INPUT_GRAD ? g.C : g.K, n_first = blockIdx.y * BN;
#if PASS == WEIGHT_GRAD
    const int R = g.images * g.Ho * g.Wo, M = g.Kh * g.Kw * g.C;
#else
    const int R = problem.group.taps_a * problem.group.taps_b * g.channels;
    const int M = g.images * (PASS == FORWARD ? g.Ho * g.Wo : g.H * g.W);
#endif
    const int r_begin = blockIdx.z * reduction_part;
    const int r_end = R - r_begin < reduction_part ? R : r_begin + reduction_part;

    REAL sums[TM][TN] = {};

    Left left(problem, left_source, m_first);
    Right right(problem, right_source, n_first);
    left.fetch(problem, left_source, r_begin, r_end);
    right.fetch(problem, right_source, r_begin, r_end);
    left.put(left_tile[0]);
    right.put(right_tile[0]);
    __syncthreads();

    int buffer = 0;
    for (int r = r_begin; r < r_end; r += BK) {
        const bool more = r + BK < r_end;
        if (more) {
            left.fetch(problem, left_source, r + BK, r_end);
            right.fetch(problem, right_source, r + BK, r_end);
        }
        Share::multiply(left_tile[buffer], right_tile[buffer], sums);
        if (more) {
            // Nobody reads this buffer any more: the last barrier lies behind its last use.
            left.put(left_tile[1 - buffer]);
            right.put(right_tile[1 - buffer]);
            __syncthreads();
            buffer = 1 - buffer;
        }
    }

#if EPILOGUE == MOMENTS || EPILOGUE == MASK
    // The tiles' memory is free for the sums of columns.
    static_assert((2 * (BM / TM) + 1) * BN <= 2 * BK * (BM + PADDING), "scratch must fit in the left tiles");
    REAL *scratch = &left_tile[0][0][0];
    REAL totals[2][TN] = {};
    __syncthreads();
#endif
#if EPILOGUE == MOMENTS
    // The pivot of a column is its first value: subtracting it keeps the squares from cancelling where the mean is large.
    REAL *pivots = scratch + 2 * (BM / TM) * BN;
    if (Share::top() == 0)
#pragma unroll
        for (int j = 0; j < TN; ++j) pivots[Share::column(j)] = sums[0][j];
    __syncthreads();
    REAL pivot[TN];
#pragma unroll
    for (int j = 0; j < TN; ++j) pivot[j] = pivots[Share::column(j)];
#endif
#if EPILOGUE == MASK
    Mask mask;
#pragma unroll
    for (int j = 0; j < TN; ++j) {
        const int n = n_first + Share::column(j);
        if (n < N) mask.fetch(below, j, n);
    }
#endif

    REAL *result = out + (long long)blockIdx.z * M * N;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const int row = problem.row(m_first + Share::row(i));
        if (row < 0) continue;
#pragma unroll
        for (int j = 0; j < TN; j += VEC_OUT) {
            const int n = n_first + Share::column(j);
            if (n >= N) continue;
            Pack<VEC_OUT> values;
#if EPILOGUE == BIAS_RELU
            Pack<VEC_OUT> residual = {};
            if (below.skip) residual = load<VEC_OUT>(below.skip + row * N + n);
#endif
#pragma unroll
            for (int e = 0; e < VEC_OUT; ++e) {
                values.v[e] = sums[i][j + e];
#if EPILOGUE == BIAS || EPILOGUE == BIAS_RELU
                if (bias) values.v[e] += bias[n + e];
#endif
#if EPILOGUE == BIAS_RELU
                values.v[e] = rectified(values.v[e] + residual.v[e]);
#elif EPILOGUE == MOMENTS
                const REAL d = values.v[e] - pivot[j + e];
                totals[0][j + e] += d;
                totals[1][j + e] += d * d;
#endif
            }
#if EPILOGUE == MASK
            mask.apply(values, below, row * N + n, j, totals);
#endif
            store(result + row * N + n, values);
        }
    }

#if EPILOGUE == MOMENTS
    REAL *line = partial + (long long)blockIdx.x * 3 * N;
    if (Share::top() == 0)
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            const int n = n_first + Share::column(j);
            if (n < N) line[n] = pivot[j];
        }
    store_sums(totals, scratch, line, 3, n_first, N);
#elif EPILOGUE == MASK
    store_sums(totals, scratch, partial + (long long)blockIdx.x * 2 * N, 2, n_first, N);
#endif
}
