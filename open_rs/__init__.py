"""Reinforcement learning for small reasoning language models, on a budget, with results that can be
trusted.
"""

__version__ = "0.1.0"
