"""How a command ends without success that is not a bug: wrong input, or a guard that stopped it."""


class InputError(Exception):
    """What the user gave cannot be used: one sentence that names the key, row or file, and the cure
    (exit 2).
    """


class GuardStop(Exception):
    """A guard ended a run that can be resumed: one sentence says which and why (exit 3); `reason`
    is the word for it in the run's diary.
    """

    reason = "guard"


class EngineStop(GuardStop):
    """The engine of the rollouts is gone or has not taken the weights; what was learnt is saved."""

    reason = "engine"


class NonFiniteStop(GuardStop):
    """Too many steps in a row without a finite gradient."""

    reason = "nonfinite"
