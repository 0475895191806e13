"""Array kernels: one sub-package a backend, the same functions with the same meaning in each."""
