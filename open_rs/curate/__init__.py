"""Problems in, fewer and better problems out; every drop recorded.

`filters` says what drops a problem, `pass_rates` measures how often a model solves it, `pipeline`
runs the filters of a recipe in order, `output` is the folder that they leave. No torch without a
`pass_rate` filter.
"""

from open_rs.curate.output import CuratedFolder
from open_rs.curate.pipeline import curate

__all__ = ["CuratedFolder", "curate"]
