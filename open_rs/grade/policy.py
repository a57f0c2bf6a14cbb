"""The version of the grading policy that docs/grading.md writes down."""

POLICY_VERSION = "2"  # raise it when any verdict or extracted answer can change; goes into records
