"""A whole run: its state, its course, and what it leaves."""
