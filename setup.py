"""Package layout only; all metadata is in pyproject.toml.

The top-level folder ``kernels`` is installed as ``incnet.kernels``: a top-level package of that name would collide with
others on PyPI, and a declarative configuration cannot map a sub-package to a folder outside its parent.
"""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["incnet", "incnet.*"]),
        *("incnet." + name for name in find_packages(include=["kernels", "kernels.*"])),
    ],
    package_dir={"incnet": "incnet", "incnet.kernels": "kernels"},
    package_data={"incnet.kernels.cuda": ["*.cu", "*.cuh"], "incnet.report": ["*.html", "*.css"]},
)
