"""A job of several ranks for tests: the trainings of a JSON file, one after the other.

Started once per rank with the environment that a launcher sets, since importing torch costs more
than the trainings do.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))


def main(plan: Path) -> None:
    from open_rs.train import loop
    from open_rs.train.distributed_join import join
    from open_rs.train.distributed_work import follow

    with join(lambda: None, []) as ranks:
        if not ranks.leads:
            return follow(ranks)
        for settings, folder in json.loads(plan.read_text()):
            recipe, run = opened(settings, Path(folder))
            loop.train(recipe, run, ranks=ranks)


def opened(settings: dict[str, Any], folder: Path) -> Any:
    """(recipe, run): a run that is there goes on."""
    from open_rs.recipe import recipe_from_dict
    from open_rs.runs import RunFolder, open_run

    recipe = recipe_from_dict(settings)
    return recipe, RunFolder(folder) if (folder / "metrics.jsonl").exists() else open_run(
        folder, recipe
    )


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def launch(count: int, command: list[str], folders: list[Path] | None = None) -> list[Any]:
    """The ranks of a job as srun starts them: no agent, rank 0 holds the store. `folders`: in which
    each works.
    """
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            cwd=folders[rank] if folders else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
