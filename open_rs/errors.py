"""The two ways in which a command ends that are not bugs: wrong input, and a guard that stopped the
run.
"""


class InputError(Exception):
    """What the user gave cannot be used: one sentence that names the key, row or file, and the cure
    (exit 2).
    """


class GuardStop(Exception):
    """A guard ended a run that can be resumed: one sentence that says which guard and why (exit 3)."""
