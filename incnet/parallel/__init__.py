"""Several processes that train one network together; one process needs nothing of it."""
