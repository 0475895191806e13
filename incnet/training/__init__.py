"""Training: an epoch, what it reports, and what it leaves on disk."""
