"""What importing a module brings along."""

import subprocess
import sys

import pytest

LISTED = """
import sys
import {module}
print(*sorted(name for name in sys.modules if name == "numba" or name.startswith("incnet.")))
"""


@pytest.mark.parametrize("module", ["incnet", "incnet.config", "incnet.stopping", "incnet.growth.criterion"])
def test_options_need_no_kernels(module):
    """Whoever reads options, a command line or the growth rules waits for neither numba nor kernels."""
    script = LISTED.format(module=module)
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert not [name for name in loaded if name == "numba" or name.startswith("incnet.kernels")], loaded
