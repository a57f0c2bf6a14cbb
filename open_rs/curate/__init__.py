"""Problems in, fewer and better problems out; every drop recorded.

`stages` says what a filter is and `filter_stages` names them all; `rounds` puts those of a recipe
in order, `store` and `reading` keep rows in chunks on disk, `pipeline` runs it all, alone or in
shards; `output` is the folder that is left, `inspect` reads it. No torch without a filter that asks
a model.
"""

from open_rs.curate.output import CuratedFolder
from open_rs.curate.pipeline import curate, curate_shard, merge_shards

__all__ = ["CuratedFolder", "curate", "curate_shard", "merge_shards"]
