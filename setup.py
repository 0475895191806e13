"""What pyproject.toml cannot say: the layout of the packages, and a README without links into the repository.

The top-level folder ``kernels`` is installed as ``incnet.kernels``: a top-level package of that name would collide with
others on PyPI, and a declarative configuration cannot map a sub-package to a folder outside its parent.

The README is the description of the package, too, where the files that it links to are not: there the links are their
names.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")

setup(
    packages=[
        *find_packages(include=["incnet", "incnet.*"]),
        *("incnet." + name for name in find_packages(include=["kernels", "kernels.*"])),
    ],
    package_dir={"incnet": "incnet", "incnet.kernels": "kernels"},
    package_data={
        "incnet": ["py.typed"],
        "incnet.kernels.cuda": ["*.cu", "*.cuh"],
        "incnet.report": ["*.html", "*.css"],
    },
    long_description=re.sub(r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", README),
    long_description_content_type="text/markdown",
)
