"""Every check, in the order in which they are made: what others need comes first."""

from open_rs.plan.doctor import environment, folder, hub, machine
from open_rs.plan.doctor.finding import Check

CHECKS: tuple[Check, ...] = (
    *environment.CHECKS,
    *machine.CHECKS,
    *folder.CHECKS,
    *hub.CHECKS,
)
