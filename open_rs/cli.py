"""The command line: `open-rs COMMAND`. The commands themselves are in `open_rs.commands`.

Progress goes to stderr, the result to stdout. Exit status: 0 done; 1 ran and the answer is bad;
2 the input was wrong; 3 stopped by a guard, resumable; 130 interrupted, as for every signal 128 +
its number.
"""

import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Annotated

import typer

from open_rs import __version__
from open_rs.commands import (
    compare,
    curate,
    doctor,
    evaluate,
    grade,
    import_,
    init,
    plan,
    power,
    report,
    search,
    train,
    watch,
)
from open_rs.commands.shared import stop
from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import Interrupted
from open_rs.text import redact

app = typer.Typer(
    help="Reinforcement learning for small reasoning language models, on a budget, with results "
    "that can be trusted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
# Each command with examples for its --help
COMMANDS: dict[Callable[..., None], tuple[str, ...]] = {
    train.quickstart: ("open-rs quickstart", "open-rs quickstart train.num_steps=20 --out runs/q"),
    init.init: (
        "open-rs init mine",
        "open-rs init mine --problems my.csv --model HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
    curate.curate: (
        "open-rs curate recipe.toml --out data/set",
        "open-rs curate --explain ID --out data/set",
    ),
    doctor.doctor: ("open-rs doctor", "open-rs doctor recipe.toml --all"),
    plan.plan: (
        "open-rs plan recipe.toml train.num_steps=500",
        "open-rs plan recipe.toml --device A40 --gpus 4 --mean-tokens 2500",
    ),
    train.train: (
        "open-rs train recipe.toml train.num_steps=50 rollout.group_size=8",
        "open-rs train --resume runs/NAME",
    ),
    watch.watch: ("open-rs watch runs/NAME", "open-rs watch runs/NAME --json"),
    evaluate.evaluate: (
        "open-rs evaluate runs/NAME",
        "open-rs evaluate MODEL --benchmark aime24 --num-samples 16 --out evals/MODEL",
    ),
    compare.compare: (
        "open-rs compare evals/BASE evals/A evals/B",
        "open-rs compare --published TABLE.csv --base MODEL",
    ),
    search.search: (
        "open-rs evaluate MODEL --benchmark FILE --num-samples 16 --out evals/samples",
        "open-rs evaluate MODEL --benchmark FILE --search beam --out evals/beam",
        "open-rs search evals/samples evals/beam",
    ),
    power.power: (
        "open-rs power --problems 30 --samples 1",
        "open-rs power --gain 0.03 --pilot evals/BASE",
    ),
    report.report: (
        "open-rs report runs/NAME",
        "open-rs report runs/A runs/B --out both.html",
        "open-rs report --costs runs/A",
        "open-rs report --paper runs/A --out paper",
    ),
    grade.grade: (
        "open-rs grade completions.jsonl --out graded.jsonl",
        "open-rs grade graded.jsonl --against other.jsonl",
    ),
    import_.import_recipe: (
        "open-rs import grpo.yaml --out recipe.toml --processes 4",
        "open-rs import grpo.yaml --out recipe.toml --trl 1.x",
    ),
}


def add_command(function: Callable[..., None], examples: Sequence[str]) -> None:
    name = "import" if function is import_.import_recipe else None
    epilog = "\n\n".join(("Examples:", *examples))
    app.command(name, epilog=epilog)(function)


for command, examples in COMMANDS.items():
    add_command(command, examples)


def main() -> None:
    """Run a command and turn its errors into one sentence and an exit status."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        stop(error, 2)
    except GuardStop as error:
        stop(error, 3)
    except Interrupted as stopped:
        stop(stopped.sentence, 128 + stopped.number)
    except Exception as error:
        if is_full_disk(error):  # met by a library, as it was imported for example
            stop(f"the disk or the temporary folder is full ({error}); free space, then go on", 2)
        sys.excepthook = without_keys  # in the place of typer's
        raise


def is_full_disk(error: Exception) -> bool:
    """No space, a quota, a limit on file sizes, or no folder that `tempfile` can write to."""
    if not isinstance(error, OSError):
        return False
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return full or "No usable temporary directory" in str(error)


def without_keys(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """The traceback of a bug, without the keys and tokens that a library put into its message."""
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))


@app.callback(invoke_without_command=True)
def version(
    show_version: Annotated[
        bool, typer.Option("--version", help="print the version", is_eager=True)
    ] = False,
) -> None:
    if show_version:
        print(f"open-rs {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
