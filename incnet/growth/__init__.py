"""The method: when to grow, how to begin, in which order."""
