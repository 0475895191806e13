"""What freezing saves: ``python -m incnet.savings``.

boundaries.py   every boundary of a network: what is skipped, predicted, measured, held in memory
display.py      the table, and the progress before it
figure.py       the plot
"""
