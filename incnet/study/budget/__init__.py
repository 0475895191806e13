"""The budget study: what accuracy a budget buys in each arm, and for what share of another arm's cost.

curves.py       an arm's accuracy and cost, budget by budget and seed by seed, from run folders
compare.py      two arms: difference in accuracy at equal cost, ratio of costs at equal accuracy, with intervals
seconds.py      what a run takes by itself: its steps, validations and recalibrations, measured side by side
branches.py     runs that begin where another one has already been
tables.py       all of it as JSON, as Markdown and for a terminal
figure.py       accuracy against cost
"""
