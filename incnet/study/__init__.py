"""Studies: the paper's tables and figures, each from one command that trains every run that it takes.

options.py      every option of a study: its own, and those of its runs
designs.py      what each study compares: networks, and arms as options of a run
folder.py       the study's folder: its runs, what each of them is at, and what they must have in common
executor.py     carrying runs out, some at a time; dask.py does it on a cluster
estimate.py     what runs would take
tables.py       what came out: accuracy, cost, and cost at equal accuracy
__main__.py     the command ``python -m incnet.study``
"""
