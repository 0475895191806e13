"""What pyproject.toml cannot say: the layout of the packages, and a README without links into the repository.

The top-level folder ``kernels`` is installed as ``incnet.kernels``: a top-level package of that name would collide with
others on PyPI, and a declarative configuration cannot map a sub-package to a folder outside its parent.

The README is the description of the package, too, where the files that it links to are not: there the links are their
names, and there is no picture.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel


class EditableWheel(editable_wheel):
    """Install this folder itself on Python's search path, with ``incnet/kernels`` as a link to ``kernels``.

    A mapped package takes a finder instead, which is asked after the search path, and so gives way to any folder called
    ``incnet`` in the current one: the clone, seen from the folder above it, or one that holds runs.
    """

    def finalize_options(self) -> None:
        link = Path("incnet", "kernels")
        try:
            if not link.exists():
                link.symlink_to(Path("..", "kernels"), target_is_directory=True)
            self.distribution.package_dir = {"": "."}
        except OSError:  # a system that makes no links: the finder has to do
            pass
        super().finalize_options()


README = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")

setup(
    cmdclass={"editable_wheel": EditableWheel},
    packages=[
        *find_packages(include=["incnet", "incnet.*"], exclude=["incnet.kernels", "incnet.kernels.*"]),
        *("incnet." + name for name in find_packages(include=["kernels", "kernels.*"])),
    ],
    package_dir={"incnet": "incnet", "incnet.kernels": "kernels"},
    package_data={
        "incnet": ["py.typed"],
        "incnet.kernels.cuda": ["*.cu", "*.cuh"],
        "incnet.report": ["*.html", "*.css"],
    },
    long_description=re.sub(
        r"\[([^]]+)\]\((?!https?:)[^)]+\)", r"\1", re.sub(r"(?s)<picture>.*</picture>\n\n", "", README)
    ),
    long_description_content_type="text/markdown",
)
