// Gather, mirror, normalise and shift images. One thread a value of out (n, H, W, C).

// An image whose row lies outside the data set becomes NaN: the rows are on the device, where the host cannot check them
// without waiting for it.
extern "C" __global__ void augment(const unsigned char *images, const long long *rows, const long long *shifts,
                                   const bool *flips, const float *mean, const float *std, float *out, long long N,
                                   int H, int W, int C, long long values) {
    const long long step = (long long)gridDim.x * blockDim.x;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < values; i += step) {
        const int c = i % C;
        const long long pixel = i / C;
        const long long image = pixel / W / H, row = rows[image];
        const long long y = pixel / W % H - shifts[2 * image];
        long long x = pixel % W - shifts[2 * image + 1];
        const bool covered = 0 <= y && y < H && 0 <= x && x < W;
        if (flips[image]) x = W - 1 - x;
        float value = 0;
        if (row < 0 || row >= N)
            value = nanf("");
        else if (covered)
            value = ((float)images[((row * H + y) * W + x) * C + c] - mean[c]) * (1.0f / std[c]);
        out[i] = value;
    }
}
