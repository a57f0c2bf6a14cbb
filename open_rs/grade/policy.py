"""The version of the grading policy that docs/grading.md writes down."""

POLICY_VERSION = "3"  # raise it when any verdict or extracted answer can change; goes into records


def policy_version(*, unboxed_numbers: bool = False) -> str:
    """The version under which a verdict was reached, with what a recipe has switched on."""
    return POLICY_VERSION + ("+unboxed_numbers" if unboxed_numbers else "")
