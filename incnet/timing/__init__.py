"""How long training steps take, measured so that the ratios of settings can be trusted.

turns.py     settings take turns; medians, quartiles, ratios
steps.py     training steps of a network whose boundary moves; of every stage and phase of a run
"""
