"""The fast kernels for the CPU, compiled by numba on first use and cached on disk."""

from .augment import augment
from .convolution import col2im, conv2d, conv2d_input_grad, conv2d_weight_grad, im2col
from .loss import softmax_cross_entropy
from .norm import batch_norm, batch_norm_fixed_grad, batch_norm_grad, batch_norm_stats
from .optimise import rmsprop_step, sgd_step
from .pointwise import add, dropout, relu, relu_grad, subsample, subsample_grad
from .pool import global_avg_pool, global_avg_pool_grad, max_pool, max_pool_grad
from .reduce import bias_grad

__all__ = [
    "add",
    "augment",
    "batch_norm",
    "batch_norm_fixed_grad",
    "batch_norm_grad",
    "batch_norm_stats",
    "bias_grad",
    "col2im",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "dropout",
    "global_avg_pool",
    "global_avg_pool_grad",
    "im2col",
    "max_pool",
    "max_pool_grad",
    "relu",
    "relu_grad",
    "rmsprop_step",
    "sgd_step",
    "softmax_cross_entropy",
    "subsample",
    "subsample_grad",
]
