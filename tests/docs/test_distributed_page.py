"""docs/distributed.md: launchers take its commands, its times and modules are those of the code."""

import inspect
import re
import shlex
from pathlib import Path
from typing import get_args

import pytest

from open_rs.recipe import TrainRecipe
from open_rs.train.distributed import SILENCE_S
from open_rs.train.distributed_join import COLLECTIVE_TIMEOUT, JOIN_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/distributed.md").read_text("utf-8")
COMMANDS = [
    line.partition("#")[0]
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]


def test_launchers_take_the_commands():
    from accelerate.commands.launch import launch_command_parser
    from torch.distributed.run import get_args_parser

    assert len(COMMANDS) == 3
    for command in COMMANDS:
        words = shlex.split(command)
        if words[0] == "torchrun":
            given = get_args_parser().parse_args(words[1:])
            count, script, rest = given.nproc_per_node, given.training_script, given.module
        else:
            assert words[:2] == ["accelerate", "launch"]
            given = launch_command_parser().parse_args(words[2:])
            count, script, rest = given.num_processes, given.training_script, given.module
        assert (script, rest) == ("open_rs", True) and int(count) > 1
        assert given.training_script_args[0] == "train"


def test_its_times_are_those_of_the_code():
    from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

    assert "gives up after 30 minutes" in PAGE
    assert COLLECTIVE_TIMEOUT.total_seconds() == SILENCE_S == 30 * 60
    assert "does not come within ten minutes" in PAGE and JOIN_S == 10 * 60
    waits = inspect.signature(LocalElasticAgent).parameters["shutdown_timeout"].default
    assert f"waits {waits} s (`--shutdown-timeout`)" in PAGE


def test_every_layout_is_in_its_table():
    layouts = get_args(TrainRecipe.model_fields["sharding"].annotation)
    assert re.findall(r'^\| `"(\w+)"`', PAGE, re.MULTILINE) == list(layouts)


@pytest.mark.parametrize("module", sorted(set(re.findall(r"`(train/\w+\.py)`", PAGE))))
def test_its_modules_are_there(module):
    assert (ROOT / "open_rs" / module).is_file()
