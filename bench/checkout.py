"""Use a plain checkout, where nothing is installed: ``import bench.checkout`` before the first kernel is needed.

Installed, the folder ``kernels`` is the package ``incnet.kernels`` (see setup.py). In a checkout it lies beside
``incnet``; with the folder above both on the package's search path it is found under the same name.
"""

import importlib.util
from pathlib import Path

import incnet

if importlib.util.find_spec("incnet.kernels") is None:
    incnet.__path__.append(str(Path(__file__).parents[1]))
