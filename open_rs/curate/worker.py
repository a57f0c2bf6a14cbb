"""A process that judges chunks: it takes a round and a chunk at a time and leaves files.

A bare interpreter that reads the work area, as a shard on another machine would. It ends when its
standard input does, so it does not outlive the process that started it by more than a chunk.
"""

import json
import os
import signal
import sys
from pathlib import Path

from open_rs.curate.output import CuratedFolder
from open_rs.curate.rounds import Prepared, judge_chunk, rounds_of, stages_of
from open_rs.curate.stages import Setting
from open_rs.errors import InputError
from open_rs.recipe import load_recipe


def main() -> None:
    """Judge the chunks that standard input names, "ROUND CHUNK" a line, and reply in JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the user's functions print is no reply
    out, shard, shards = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    work = CuratedFolder(out).work
    recipe = load_recipe(work.recipe)
    rounds = rounds_of(stages_of(recipe))
    with Prepared(Setting(recipe, out, (shard, shards))) as prepared:
        for line in sys.stdin:
            round_, number = map(int, line.split())
            error = None
            try:
                judge_chunk(work, rounds[:round_], number, prepared)
            except InputError as refused:
                error = str(refused)
            replies.write(json.dumps({"error": error}) + "\n")
            replies.flush()


if __name__ == "__main__":
    main()
