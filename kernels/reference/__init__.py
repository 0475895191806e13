"""The definition of every kernel, in plain NumPy, written to be read; the other backends are tested against it."""

from .augment import *
from .average import *
from .conv import *
from .fused import *
from .linear import *
from .loss import *
from .norm import *
from .optimise import *
from .pointwise import *
from .pool import *
from .resize import *
