// Convolution as a matrix product whose left matrix, the patches, is never in memory: each block gathers the tile it needs.
//
//     PASS           result (M, N)         reduction R     left (M, R)                right (R, N)
//     FORWARD        y  (N*Ho*Wo, K)       Kh*Kw*C         patches of x               weight
//     INPUT_GRAD     dx (N*H*W, C)         Kh*Kw*K         windows of dy              weight, C and K exchanged
//     WEIGHT_GRAD    dw (Kh*Kw*C, K)       N*Ho*Wo         patches of x, transposed   dy
//
// A block computes a tile of BM x BN results, a thread TM x TN of them, from slices of BK reduction steps that pass through
// shared memory in two buffers: while one is multiplied the next is on its way in registers. blockIdx.z takes its part
// of the reduction; with several parts the results are partial sums (gridDim.z, M, N), to be added afterwards.
//
// The loader defines PASS, BM, BN, BK, TM, TN, and how many neighbouring values are moved at once: VEC_LEFT, VEC_RIGHT, VEC_OUT.
#include "common.cuh"

#define FORWARD 0
#define INPUT_GRAD 1
#define WEIGHT_GRAD 2

const int THREADS = (BM / TM) * (BN / TN);
const int PADDING = 4;  // of a row in shared memory: spreads the columns over the banks, and keeps packs of 4 aligned

struct Geometry {
    int images, H, W, C, Ho, Wo, K, Kh, Kw, stride, padding;
};

// A tile of `lines` lines by `length` values, read in packs along the length: which packs are this thread's. Its place along
// the length is the same in every load, so whatever depends on it is computed once.
template <int lines, int length, int vec> struct Tile {
    static const int packs = length / vec;
    static const int step = THREADS / packs;
    static const int loads = (lines + step - 1) / step;
    static_assert(THREADS % packs == 0 && length % vec == 0, "a thread must keep its place along the tile");
    __device__ static int place() { return threadIdx.x % packs * vec; }
    __device__ static int line(int load) { return threadIdx.x / packs + load * step; }
    // Whether the thread takes part in this load; a constant where the tile divides evenly.
    __device__ static bool active(int load) { return lines % step == 0 || line(load) < lines; }
};

// ---------------------------------------------------------------- left: patches

#if PASS == WEIGHT_GRAD

// Lines are pixels (the reduction), the length runs along the taps' channels (the rows of the result).
struct Left {
    typedef Tile<BK, BM, VEC_LEFT> tile;
    Pack<VEC_LEFT> staged[tile::loads];
    int a, b, c;
    bool valid;

    __device__ Left(const Geometry &g, int first) {
        const int m = first + tile::place();
        valid = m < g.Kh * g.Kw * g.C;
        c = m % g.C;
        b = m / g.C % g.Kw - g.padding;
        a = m / g.C / g.Kw - g.padding;
    }

    __device__ void fetch(const REAL *x, const Geometry &g, int r_first, int r_end) {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int r = r_first + tile::line(l);
            const int h = r / g.Wo % g.Ho * g.stride + a, w = r % g.Wo * g.stride + b;
            staged[l] = {};
            if (tile::active(l) && valid && r < r_end && 0 <= h && h < g.H && 0 <= w && w < g.W)
                staged[l] = load<VEC_LEFT>(x + ((long long)(r / g.Wo / g.Ho * g.H + h) * g.W + w) * g.C + c);
        }
    }

    __device__ void put(REAL (&shared)[BK][BM + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l)
            if (tile::active(l)) store(&shared[tile::line(l)][tile::place()], staged[l]);
    }
};

#else

// Lines are pixels (the rows of the result), the length runs along the taps' channels (the reduction).
struct Left {
    typedef Tile<BM, BK, VEC_LEFT> tile;
    Pack<VEC_LEFT> staged[tile::loads];
    int image[tile::loads], top[tile::loads], left[tile::loads];  // image -1: no such pixel

    __device__ Left(const Geometry &g, int first) {
#if PASS == FORWARD
        const int rows = g.Ho, cols = g.Wo;
#else
        const int rows = g.H, cols = g.W;
#endif
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int m = first + tile::line(l);
            const int w = m % cols, h = m / cols % rows;
            image[l] = m / cols / rows;
#if PASS == FORWARD
            top[l] = h * g.stride - g.padding;
            left[l] = w * g.stride - g.padding;
#else
            top[l] = h + g.padding;
            left[l] = w + g.padding;
#endif
            if (!tile::active(l) || image[l] >= g.images) image[l] = -1;
        }
    }

    __device__ void fetch(const REAL *source, const Geometry &g, int r_first, int r_end) {
        const int r = r_first + tile::place();
#if PASS == FORWARD
        const int channels = g.C, rows = g.H, cols = g.W;
#else
        const int channels = g.K, rows = g.Ho, cols = g.Wo;
#endif
        const int c = r % channels, b = r / channels % g.Kw, a = r / channels / g.Kw;
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            bool inside = r < r_end && image[l] >= 0;
#if PASS == FORWARD
            const int h = top[l] + a, w = left[l] + b;
            inside = inside && 0 <= h && 0 <= w;
#else
            // The output pixel (h, w) reads this input pixel through the tap (a, b) if h * stride + a = top.
            int h = top[l] - a, w = left[l] - b;
            inside = inside && 0 <= h && 0 <= w;
            if (g.stride > 1) {
                inside = inside && h % g.stride == 0 && w % g.stride == 0;
                h /= g.stride;
                w /= g.stride;
            }
#endif
            inside = inside && h < rows && w < cols;
            staged[l] = {};
            if (inside) staged[l] = load<VEC_LEFT>(source + ((long long)(image[l] * rows + h) * cols + w) * channels + c);
        }
    }

    __device__ void put(REAL (&shared)[BK][BM + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l)
            if (tile::active(l))
#pragma unroll
                for (int e = 0; e < VEC_LEFT; ++e) shared[tile::place() + e][tile::line(l)] = staged[l].v[e];
    }
};

#endif

// ---------------------------------------------------------------- right: weights, or dy

#if PASS == INPUT_GRAD

// right[(a, b, k), c] = weight[a, b, c, k]: lines are the input channels c, the length runs along the taps' k.
struct Right {
    typedef Tile<BN, BK, VEC_RIGHT> tile;
    Pack<VEC_RIGHT> staged[tile::loads];
    int first;

    __device__ Right(const Geometry &g, int first) : first(first) {}

    __device__ void fetch(const REAL *weight, const Geometry &g, int r_first, int r_end) {
        const int r = r_first + tile::place();
        const int k = r % g.K, tap = r / g.K;
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int c = first + tile::line(l);
            staged[l] = {};
            if (tile::active(l) && r < r_end && c < g.C)
                staged[l] = load<VEC_RIGHT>(weight + ((long long)tap * g.C + c) * g.K + k);
        }
    }

    __device__ void put(REAL (&shared)[BK][BN + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l)
            if (tile::active(l))
#pragma unroll
                for (int e = 0; e < VEC_RIGHT; ++e) shared[tile::place() + e][tile::line(l)] = staged[l].v[e];
    }
};

#else

// A plain matrix (R, K), row by row.
struct Right {
    typedef Tile<BK, BN, VEC_RIGHT> tile;
    Pack<VEC_RIGHT> staged[tile::loads];
    int n;

    __device__ Right(const Geometry &g, int first) : n(first + tile::place()) {}

    __device__ void fetch(const REAL *matrix, const Geometry &g, int r_first, int r_end) {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int r = r_first + tile::line(l);
            staged[l] = {};
            if (tile::active(l) && r < r_end && n < g.K) staged[l] = load<VEC_RIGHT>(matrix + (long long)r * g.K + n);
        }
    }

    __device__ void put(REAL (&shared)[BK][BN + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l)
            if (tile::active(l)) store(&shared[tile::line(l)][tile::place()], staged[l]);
    }
};

#endif

// ---------------------------------------------------------------- the product

extern "C" __global__ void __launch_bounds__(THREADS) implicit_gemm(
    const REAL *__restrict__ left_source, const REAL *__restrict__ right_source, const REAL *__restrict__ bias,
    REAL *__restrict__ out, int images, int H, int W, int C, int Ho, int Wo, int K, int Kh, int Kw, int stride,
    int padding, int reduction_part) {
    alignas(4 * sizeof(REAL)) __shared__ REAL left_tile[2][BK][BM + PADDING];
    alignas(4 * sizeof(REAL)) __shared__ REAL right_tile[2][BK][BN + PADDING];

    const Geometry g = {images, H, W, C, Ho, Wo, K, Kh, Kw, stride, padding};
#if PASS == FORWARD
    const int M = images * Ho * Wo, N = K, R = Kh * Kw * C;
#elif PASS == INPUT_GRAD
    const int M = images * H * W, N = C, R = Kh * Kw * K;
#else
    const int M = Kh * Kw * C, N = K, R = images * Ho * Wo;
#endif
    const int m_first = blockIdx.x * BM, n_first = blockIdx.y * BN;
    const int r_begin = blockIdx.z * reduction_part;
    const int r_end = R - r_begin < reduction_part ? R : r_begin + reduction_part;

    // A thread's results are groups of 4 x 4, spread over the tile so that a warp's reads of shared memory do not collide.
    const int m_groups = TM / 4, n_groups = TN / 4;
    const int tx = threadIdx.x % (BN / TN) * 4, ty = threadIdx.x / (BN / TN) * 4;
    REAL sums[TM][TN] = {};

    Left left(g, m_first);
    Right right(g, n_first);
    left.fetch(left_source, g, r_begin, r_end);
    right.fetch(right_source, g, r_begin, r_end);
    left.put(left_tile[0]);
    right.put(right_tile[0]);
    __syncthreads();

    int buffer = 0;
    for (int r = r_begin; r < r_end; r += BK) {
        const bool more = r + BK < r_end;
        if (more) {
            left.fetch(left_source, g, r + BK, r_end);
            right.fetch(right_source, g, r + BK, r_end);
        }
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            Pack<4> a[m_groups], b[n_groups];
#pragma unroll
            for (int i = 0; i < m_groups; ++i) a[i] = load<4>(&left_tile[buffer][k][i * (BM / m_groups) + ty]);
#pragma unroll
            for (int j = 0; j < n_groups; ++j) b[j] = load<4>(&right_tile[buffer][k][j * (BN / n_groups) + tx]);
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] += a[i / 4].v[i % 4] * b[j / 4].v[j % 4];
        }
        if (more) {
            // Nobody reads this buffer any more: the last barrier lies behind its last use.
            left.put(left_tile[1 - buffer]);
            right.put(right_tile[1 - buffer]);
            __syncthreads();
            buffer = 1 - buffer;
        }
    }

    REAL *result = out + (long long)blockIdx.z * M * N;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        const int m = m_first + i / 4 * (BM / m_groups) + ty + i % 4;
        if (m >= M) continue;
#pragma unroll
        for (int j = 0; j < TN; j += VEC_OUT) {
            const int n = n_first + j / 4 * (BN / n_groups) + tx + j % 4;
            if (n >= N) continue;
            Pack<VEC_OUT> values;
#pragma unroll
            for (int e = 0; e < VEC_OUT; ++e) values.v[e] = sums[i][j + e] + (bias ? bias[n + e] : REAL(0));
            store(result + (long long)m * N + n, values);
        }
    }
}
