"""Convolution as a matrix product: the patches of the images, times the weights (``--convolution im2col``).

Every output pixel sees a patch of the input. With the patches as the rows of a matrix, ``columns``, a convolution is a
dense layer of the patches, and its gradients are those of the dense layer::

    columns = im2col(x)                     (N*Ho*Wo, Kh*Kw*C)

    y  = columns @ weight + bias            (N*Ho*Wo, K)
    dw = columns^T @ dy                     (Kh*Kw*C, K)
    dx = col2im(dy @ weight^T)              (N, H, W, C): what each patch gives is added to the pixels that it saw

The price is memory: for a 3x3 kernel every pixel is written nine times. None of it is kept: backward gathers the
patches anew. Symbols and shapes are those of ``reference.conv``, which defines all of this in NumPy. Here it stands
once for all backends, upon the ``im2col``, ``col2im`` and dense products of each.

Source: Chellapilla, Puri and Simard (2006), "High performance convolutional neural networks for document processing".
"""

from typing import Any

from .reference import fused
from .shapes import output_size

__all__ = ["Im2col"]


class Im2col:
    """The operations of a backend, with convolutions by im2col, and without the fused ones.

    Fused operations spare passes over memory, by convolutions that normalise what they read and sum what they write.
    A product of patches that were written down before does neither, so nothing would be spared.

    Parameters
    ----------
    backend : module
        ``incnet.kernels.cpu``, or another one.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    def __getattr__(self, operation: str) -> Any:
        if operation in fused.__all__:
            raise AttributeError(f"{operation} is not computed by im2col: fuse networks with the convolution in use")
        return getattr(self.backend, operation)

    def conv2d(self, x, weight, bias, stride, padding):
        """X (N, H, W, C), weight (Kh, Kw, C, K), bias (K,) or None -> y (N, Ho, Wo, K)."""
        kernel_size, channels_out = weight.shape[:2], weight.shape[3]
        rows, cols = (output_size(s, k, stride, padding) for s, k in zip(x.shape[1:3], kernel_size, strict=True))
        columns = self.backend.im2col(x, kernel_size, stride, padding)
        y = self.backend.linear(columns, self.backend.as_matrix(weight), bias)
        return y.reshape(len(x), rows, cols, channels_out)

    def conv2d_input_grad(self, dy, weight, x_shape, stride, padding):
        """Dy (N, Ho, Wo, K), weight (Kh, Kw, C, K) -> dx (N, H, W, C)."""
        columns = self.backend.linear_input_grad(self.backend.as_matrix(dy), self.backend.as_matrix(weight))
        return self.backend.col2im(columns, x_shape, weight.shape[:2], stride, padding)

    def conv2d_weight_grad(self, x, dy, kernel_size, stride, padding):
        """X (N, H, W, C), dy (N, Ho, Wo, K) -> dw (Kh, Kw, C, K)."""
        columns = self.backend.im2col(x, kernel_size, stride, padding)
        dw = self.backend.linear_weight_grad(columns, self.backend.as_matrix(dy))
        return dw.reshape(*kernel_size, x.shape[3], dy.shape[3])
