"""Held-out scores with intervals, paired comparisons, the choice of a checkpoint. Only `run`, which
samples, needs an engine; everything else works from files and without torch.
"""
