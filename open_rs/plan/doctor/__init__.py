"""`open-rs doctor`: is this machine, and is this recipe, fit for a run? Check by check, in seconds.

Each check is a plain function of a `Subject`; the modules are what they look at, and end with the
table of their checks. It is the one room beside training that looks into every stage.
"""
