// The tiles of the left and the right matrix that pass through shared memory: who reads what, and where it goes.
//
//     PASS           left (M, R)                right (R, N)
//     FORWARD        patches of x               weight
//     INPUT_GRAD     windows of dy              weight, C and K exchanged
//     WEIGHT_GRAD    patches of x, transposed   dy
#pragma once
#include "geometry.cuh"
#include "source.cuh"
#include "tensor_core.cuh"

const int THREADS = (BM / TM) * (BN / TN);
// Blocks that a multiprocessor should hold: 128 registers a thread, unless a thread's results take more.
const int BLOCKS = TM * TN <= 32 ? 512 / THREADS : 1;
const int PADDING = 4;  // of a row in shared memory: spreads the columns over the banks, and keeps packs of 4 aligned

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

#if PASS == WEIGHT_GRAD

// Lines are pixels (the reduction), the length runs along the taps' channels (the rows of the result).
struct Left {
    typedef Tile<BK, BM, VEC_LEFT> tile;
    Staged<LEFT_READS, VEC_LEFT, tile::loads> staged;
    Recipe<LEFT_READS, VEC_LEFT> recipe;
    int top, left, channel;
    bool valid;

    __device__ Left(const Problem &problem, const Source &x, int first) {
        const Tap tap = problem.tap(first + tile::place());
        valid = problem.row(first + tile::place()) >= 0;
        top = tap.a - problem.g.padding;
        left = tap.b - problem.g.padding;
        channel = tap.channel;
        recipe.fetch(x, channel);
    }

    __device__ void fetch(const Problem &problem, const Source &x, int r_first, int r_end) {
        const Geometry &g = problem.g;
        staged.clear();
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int r = r_first + tile::line(l);
            const Pixel pixel = problem.pixel(r);
            const int h = pixel.h * g.stride + top, w = pixel.w * g.stride + left;
            const bool inside = valid && r < r_end && 0 <= h && h < g.H && 0 <= w && w < g.W;
            staged.fetch(
                l, x, ((pixel.image * g.H + h) * g.W + w) * g.C + channel, tile::active(l) && inside);
        }
    }

    __device__ void put(REAL (&shared)[BK][BM + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l)
            if (tile::active(l)) store(&shared[tile::line(l)][tile::place()], factors(staged.get(l, recipe)));
    }
};

#else

const int NOWHERE = -30000;  // a line above every image

// Lines are pixels (the rows of the result), the length runs along the taps' channels (the reduction).
struct Left {
    typedef Tile<BM, BK, VEC_LEFT> tile;
    Staged<LEFT_READS, VEC_LEFT, tile::loads> staged;
    Recipe<LEFT_READS, VEC_LEFT> recipe;
    // Where the first tap lies: line and column in the image, as 16 bits each to save registers, and its first value.
    int corner[tile::loads], first_value[tile::loads];

    __device__ Left(const Problem &problem, const Source &, int first) {
        const Geometry &g = problem.g;
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const Pixel pixel = problem.pixel(first + tile::line(l));
#if PASS == FORWARD
            const int rows = g.H, cols = g.W;
            const int h = pixel.h * g.stride - g.padding, w = pixel.w * g.stride - g.padding;
#else
            // The output pixel that reads this one through the group's first tap; the a-th tap's lies a above it.
            const Group &group = problem.group;
            const int rows = g.Ho, cols = g.Wo;
            const int h = (pixel.h * g.stride + group.h + g.padding - group.a) / g.stride;
            const int w = (pixel.w * g.stride + group.w + g.padding - group.b) / g.stride;
#endif
            const bool exists = tile::active(l) && pixel.image < g.images;
            corner[l] = (exists ? h : NOWHERE) * 65536 | (w & 0xffff);
            first_value[l] = ((pixel.image * rows + h) * cols + w) * g.channels;
        }
    }

    __device__ void fetch(const Problem &problem, const Source &source, int r_first, int r_end) {
        const Geometry &g = problem.g;
        const int r = r_first + tile::place();
        const Tap tap = problem.tap(r);
#if PASS == FORWARD
        const int rows = g.H, cols = g.W, down = tap.a, right = tap.b;
#else
        const int rows = g.Ho, cols = g.Wo, down = -tap.a, right = -tap.b;
#endif
        const int away = (down * cols + right) * g.channels + tap.channel;
        recipe.fetch(source, tap.channel);
        staged.clear();
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int h = (corner[l] >> 16) + down, w = (short)corner[l] + right;
            const bool inside = r < r_end && 0 <= h && h < rows && 0 <= w && w < cols;
            staged.fetch(l, source, first_value[l] + away, inside);
        }
    }

    __device__ void put(REAL (&shared)[BK][BM + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            if (!tile::active(l)) continue;
            const Pack<VEC_LEFT> values = factors(staged.get(l, recipe));
#pragma unroll
            for (int e = 0; e < VEC_LEFT; ++e) shared[tile::place() + e][tile::line(l)] = values.v[e];
        }
    }
};

#endif

#if PASS == INPUT_GRAD

// right[(a, b, k), c] = weight[a, b, c, k]: lines are the input channels c, the length runs along the taps' k.
struct Right {
    typedef Tile<BN, BK, VEC_RIGHT> tile;
    Pack<VEC_RIGHT> staged[tile::loads];
    int first;

    __device__ Right(const Problem &, const Source &, int first) : first(first) {}

    __device__ void fetch(const Problem &problem, const Source &weight, int r_first, int r_end) {
        const Geometry &g = problem.g;
        const int r = r_first + tile::place();
        const Tap tap = problem.tap(r);
        const int a = problem.group.a + tap.a * g.stride, b = problem.group.b + tap.b * g.stride;
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int c = first + tile::line(l);
            staged[l] = {};
            if (tile::active(l) && r < r_end && c < g.C)
                staged[l] = load<VEC_RIGHT>(weight.values + ((a * g.Kw + b) * g.C + c) * g.K + tap.channel);
        }
    }

    __device__ void put(REAL (&shared)[BK][BN + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            if (!tile::active(l)) continue;
            const Pack<VEC_RIGHT> values = factors(staged[l]);
#pragma unroll
            for (int e = 0; e < VEC_RIGHT; ++e) shared[tile::place() + e][tile::line(l)] = values.v[e];
        }
    }
};

#else

// A plain matrix (R, K), row by row.
struct Right {
    typedef Tile<BK, BN, VEC_RIGHT> tile;
    Staged<RIGHT_READS, VEC_RIGHT, tile::loads> staged;
    Recipe<RIGHT_READS, VEC_RIGHT> recipe;
    int n;

    __device__ Right(const Problem &problem, const Source &matrix, int first) : n(first + tile::place()) {
        if (n < problem.g.K) recipe.fetch(matrix, n);
    }

    __device__ void fetch(const Problem &problem, const Source &matrix, int r_first, int r_end) {
        staged.clear();
#pragma unroll
        for (int l = 0; l < tile::loads; ++l) {
            const int r = r_first + tile::line(l);
            staged.fetch(
                l, matrix, r * problem.g.K + n, tile::active(l) && r < r_end && n < problem.g.K);
        }
    }

    __device__ void put(REAL (&shared)[BK][BN + PADDING]) const {
#pragma unroll
        for (int l = 0; l < tile::loads; ++l)
            if (tile::active(l)) store(&shared[tile::line(l)][tile::place()], factors(staged.get(l, recipe)));
    }
};

#endif
