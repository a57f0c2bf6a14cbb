"""Rewards that go wrong, each in its own way."""

import itertools
import time

CALLS = itertools.count()


def raises(rollout, problem):
    return rollout.completion["answer"]


def constant(rollout, problem):
    return 0.5


def moody(rollout, problem):
    return float(next(CALLS))


def text(rollout, problem):
    return str(len(rollout.completion))


def slow(rollout, problem):
    until = time.perf_counter() + 0.06
    while time.perf_counter() < until:
        pass
    return float(len(rollout.completion))
