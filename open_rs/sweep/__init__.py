"""Several runs of one recipe, and what may be said of them together."""
