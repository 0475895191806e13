"""The fast kernels for the CPU, compiled by numba on first use and cached on disk.

Those of `reference`, and a recorder.
"""

from .cache import find_cache

find_cache()  # before the first kernel is defined

from .augment import augment
from .average import lerp_all
from .coefficients import gradient_coefficients, move_statistics, norm_coefficients
from .columns import as_matrix, col2im, im2col
from .convolution import conv2d, conv2d_input_grad, conv2d_weight_grad
from .fused import (
    conv2d_bias_relu,
    conv2d_moments,
    fused_input_grad,
    fused_weight_grad,
    masked_grads,
    masked_input_grad,
    norm_conv2d_moments,
    norm_gradient,
    norm_relu,
    relu_mask,
)
from .linear import factored_weight_grad, linear, linear_input_grad, linear_weight_grad
from .loss import softmax_cross_entropy
from .norm import (
    batch_norm,
    batch_norm_fixed_grad,
    batch_norm_grad,
    batch_norm_stats,
)
from .optimise import rmsprop_step_all, sgd_step_all
from .pointwise import (
    add,
    cast,
    draw_seed,
    dropout,
    leaky_relu,
    leaky_relu_grad,
    relu,
    relu_grad,
    subsample,
    subsample_grad,
)
from .pool import avg_pool, avg_pool_grad, global_avg_pool, global_avg_pool_grad, max_pool, max_pool_grad
from .record import Recorder
from .reduce import bias_grad
from .resize import resize_area, resize_bilinear
