"""The kernels for CUDA devices: CuPy arrays, own CUDA C, compiled on first use for the device at hand.

Those of `reference`, and a recorder.
"""

from .augment import *
from .coefficients import *
from .conv import *
from .fused import *
from .im2col import *
from .linear import *
from .loss import *
from .norm import *
from .optimise import *
from .pointwise import *
from .pool import *
from .product import use_tf32
from .record import Recorded, Recorder
from .reduce import *
from .resize import *
