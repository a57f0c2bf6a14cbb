"""The command line: `open-rs COMMAND`. The commands themselves are in `open_rs.commands`.

Progress goes to stderr, the result to stdout. Exit status: 0 done; 1 ran and the answer is bad;
2 the input was wrong; 3 stopped by a guard, resumable; 130 interrupted.
"""

import sys
import traceback
from types import TracebackType
from typing import Annotated

import typer

from open_rs import __version__
from open_rs.commands import compare, curate, evaluate, grade, import_, power, report, train, watch
from open_rs.commands.shared import stop
from open_rs.errors import GuardStop, InputError
from open_rs.text import redact

app = typer.Typer(
    help="Reinforcement learning for small reasoning language models, on a budget, with results "
    "that can be trusted.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    train.quickstart,
    curate.curate,
    train.plan,
    train.train,
    watch.watch,
    evaluate.evaluate,
    compare.compare,
    power.power,
    report.report,
    grade.grade,
)
for command in COMMANDS:
    app.command()(command)
app.command("import")(import_.import_recipe)


def main() -> None:
    """Run a command and turn its errors into one sentence and an exit status."""
    try:
        app(standalone_mode=True)
    except InputError as error:
        stop(error, 2)
    except GuardStop as error:
        stop(error, 3)
    except Exception:
        sys.excepthook = without_keys  # in the place of typer's
        raise


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
