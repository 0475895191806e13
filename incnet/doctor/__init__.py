"""Whether incnet works on this machine: ``incnet doctor``.

findings.py    what was found, and whether it is as it should be
machine.py     versions, processor, caches, optional packages
kernels.py     each kernel of a backend against its definition, by the cases of cases.py
steps.py       thirty training steps against the reference
"""
