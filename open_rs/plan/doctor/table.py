"""Every check, in the order in which they are made: what others need comes first."""

from open_rs.plan.doctor import (
    data,
    engine,
    environment,
    folder,
    grading,
    hub,
    machine,
    model,
    network,
    rewards,
    template,
    tokenizer,
)
from open_rs.plan.doctor.finding import Check

ROOMS = (
    environment,
    machine,
    folder,
    network,
    hub,
    model,
    tokenizer,
    template,
    grading,
    data,
    rewards,
    engine,
)
CHECKS: tuple[Check, ...] = tuple(check for room in ROOMS for check in room.CHECKS)
