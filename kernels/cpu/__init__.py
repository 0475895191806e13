"""The fast kernels for the CPU, compiled by numba on first use and cached on disk.

Those of `reference`, and a recorder.
"""

from .cache import find_cache

find_cache()  # before the first kernel is defined

from .augment import *
from .average import *
from .coefficients import *
from .convolution import *
from .fused import *
from .im2col import *
from .linear import *
from .loss import *
from .norm import *
from .optimise import *
from .pointwise import *
from .pool import *
from .record import Recorder
from .reduce import *
from .resize import *
