// One step of each optimizer, in place, on up to TENSORS parameters in one launch.
#include "common.cuh"

const int TENSORS = 64;

// Where the parameters and their state lie; handed over by value, so that a recorded launch keeps it.
struct Tensors {
    REAL *data[TENSORS];
    const REAL *grad[TENSORS];
    REAL *square[TENSORS];    // unused by sgd and lerp
    REAL *velocity[TENSORS];  // unused by lerp
    long long size[TENSORS];
    REAL weight_decay[TENSORS];
    int first_block[TENSORS];  // of the blocks that work on the tensor
    int count;
};

// The tensor of this block: the last one that starts at or before it.
__device__ __forceinline__ int tensor_of_block(const Tensors &tensors) {
    int low = 0, high = tensors.count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (tensors.first_block[middle] <= (int)blockIdx.x)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

// RMSProp (Tieleman and Hinton, 2012) with a heavy ball on the normalised step.
extern "C" __global__ void rmsprop(Tensors tensors, REAL lr, REAL rho, REAL momentum, REAL eps, int per_block) {
    const int t = tensor_of_block(tensors);
    const long long first = (long long)(blockIdx.x - tensors.first_block[t]) * per_block;
    const long long last = min(first + per_block, tensors.size[t]);
    REAL *data = tensors.data[t], *square = tensors.square[t], *velocity = tensors.velocity[t];
    const REAL *grad = tensors.grad[t];
    for (long long i = first + threadIdx.x; i < last; i += blockDim.x) {
        const REAL g = grad[i] + tensors.weight_decay[t] * data[i];
        const REAL s = rho * square[i] + (REAL(1) - rho) * (g * g);
        const REAL v = momentum * velocity[i] + g / (sqrt(s) + eps);
        square[i] = s;
        velocity[i] = v;
        data[i] -= lr * v;
    }
}

// Gradient descent with a heavy ball (Polyak, 1964).
extern "C" __global__ void sgd(Tensors tensors, REAL lr, REAL momentum, int per_block) {
    const int t = tensor_of_block(tensors);
    const long long first = (long long)(blockIdx.x - tensors.first_block[t]) * per_block;
    const long long last = min(first + per_block, tensors.size[t]);
    REAL *data = tensors.data[t], *velocity = tensors.velocity[t];
    const REAL *grad = tensors.grad[t];
    for (long long i = first + threadIdx.x; i < last; i += blockDim.x) {
        const REAL v = momentum * velocity[i] + grad[i] + tensors.weight_decay[t] * data[i];
        velocity[i] = v;
        data[i] -= lr * v;
    }
}

// Averages, as data, part of the way to what they follow, as grad.
extern "C" __global__ void lerp(Tensors tensors, REAL weight, int per_block) {
    const int t = tensor_of_block(tensors);
    const long long first = (long long)(blockIdx.x - tensors.first_block[t]) * per_block;
    const long long last = min(first + per_block, tensors.size[t]);
    REAL *average = tensors.data[t];
    const REAL *data = tensors.grad[t];
    for (long long i = first + threadIdx.x; i < last; i += blockDim.x)
        average[i] += weight * (data[i] - average[i]);
}
