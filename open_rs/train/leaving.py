"""However the steps of a run end, what they made is kept, and the run can go on from there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from open_rs.console import say
from open_rs.errors import EngineStop, GuardStop, InputError
from open_rs.interrupt import DeadlinePassed, Interrupted, undisturbed
from open_rs.runs import RunFolder, log_event
from open_rs.train.checkpoint import checkpoint_steps
from open_rs.train.guard import Paused, Stopped, end_for_good, pause
from open_rs.train.journal import journal_path
from open_rs.train.setup import Training

Save = Callable[[Training], None]  # begins a checkpoint of the step that is complete


@contextmanager
def leaving_well(training: Training, save: Save) -> Iterator[None]:
    """A stop that was asked for is saved, and what raised is noted with the rollouts that it was
    working on.
    """
    try:
        yield
    except Interrupted as stop:
        if cause := training.ranks.cause_of(stop):  # the launcher ends all when one has failed
            note_failure(training, cause)
            raise cause from stop
        save_to_go_on(training, save)
        raise
    except Paused as alarm:
        save_to_go_on(training, save)
        raise pause(training, alarm) from None
    except Stopped as alarm:
        save_to_go_on(training, save)
        end_for_good(training, alarm)
    except DeadlinePassed:
        save_to_go_on(training, save)
        raise
    except EngineStop as lost:
        save_to_go_on(training, save)
        training.budget.note_stop(lost.reason, cause=str(lost))
        raise GuardStop(
            f"{lost}; stopped {training.budget.kept}: mend it and {training.budget.way_on()}"
        ) from None
    except GuardStop as guard:
        if cause := training.ranks.cause_of(guard):
            note_failure(training, cause)
            raise cause from guard
        training.budget.note_stop(guard.reason, cause=str(guard))
        raise
    except Exception as error:
        cause = training.ranks.cause_of(error)
        note_failure(training, cause or error)
        if cause is None:
            raise
        raise cause from error


def save_to_go_on(training: Training, save: Save) -> None:
    """The last complete step as a checkpoint. Between the updates of one rollout batch there is no
    place to go on from: the run then goes back to the checkpoint before, and replays.
    """
    step, run = training.state.step, training.run
    whole = step % training.recipe.train.updates_per_batch == 0
    with undisturbed():
        try:
            training.saver.wait()
        except Exception as error:  # of an earlier step: this one is tried all the same
            say(f"a save that was under way has failed: {error}")
        if step and whole and step not in checkpoint_steps(run):
            try:
                save(training)
                training.saver.wait()
            except Exception as error:  # a full disk, or shards that are gone with their rank
                cause = training.ranks.cause_of(error) or error
                say(f"step {step} cannot be saved ({cause}): the run goes on from an earlier one")
    training.budget.step, training.budget.kept = step, kept(run, step)


def kept(run: RunFolder, step: int) -> str:
    """Where a run was stopped and from where it goes on, to follow a verb."""
    steps = checkpoint_steps(run)
    if not step:
        return "before the first step was made"
    if step in steps:
        return f"after step {step}, which is saved"
    newest = f"step {max(steps)}" if steps else "nothing"
    return f"after step {step}, up to which {newest} is saved and the rest is replayed"


def note_failure(training: Training, error: Exception) -> None:
    """An event with the error and the file of the rollouts that were in work."""
    run, step = training.run, training.state.step + 1
    rollouts = run.rollouts(step) if run.rollouts(step).exists() else journal_path(run, step)
    held = str(rollouts.relative_to(run.path)) if rollouts.exists() else None
    reason = f"{type(error).__name__}: {error}"
    with suppress(InputError):  # a full disk must not hide what went wrong
        log_event(run, "failed", step, error=reason, rollouts=held)
