"""However the steps of a run end, what they made is kept, and the run can go on from there."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from open_rs.console import say
from open_rs.errors import EngineStop, GuardStop, InputError
from open_rs.interrupt import DeadlinePassed, Interrupted, undisturbed
from open_rs.runs import log_event
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
    run = training.run
    try:
        yield
    except Interrupted as stop:
        if cause := training.ranks.cause_of(stop):  # the launcher ends all when one has failed
            note_failure(training, cause)
            raise cause from stop
        save_to_go_on(training, save)
        log_event(run, "stop", training.state.step, reason=str(stop))
        raise
    except Paused as alarm:
        save_to_go_on(training, save)
        raise pause(training, alarm) from None
    except Stopped as alarm:
        save_to_go_on(training, save)
        end_for_good(training, alarm)
    except DeadlinePassed:
        save_to_go_on(training, save)
        step = training.state.step
        log_event(run, "stop", step, reason="budget", spent_s=training.budget.seconds)
        done = f"after step {step}, which is saved" if step else "before the first step was made"
        raise GuardStop(
            f"budget: {training.budget.sentence()} are used {done}; raise it and go on by "
            f"open-rs train --resume {run.path}"
        ) from None
    except EngineStop as lost:
        save_to_go_on(training, save)
        log_event(run, "stop", training.state.step, reason="engine", cause=str(lost))
        step = training.state.step
        raise GuardStop(
            f"{lost}; step {step} is saved: mend it and go on by open-rs train --resume {run.path}"
        ) from None
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
    with undisturbed():
        training.saver.wait()
        step = training.state.step
        whole = step % training.recipe.train.updates_per_batch == 0
        if step and whole and step not in checkpoint_steps(training.run):
            try:
                save(training)
            except RuntimeError as error:  # shards are gone with their rank
                cause = training.ranks.cause_of(error)
                if cause is None:
                    raise
                say(f"step {step} cannot be saved ({cause}): the run goes on from an earlier one")
            training.saver.wait()


def note_failure(training: Training, error: Exception) -> None:
    """An event with the error and the file of the rollouts that were in work."""
    run, step = training.run, training.state.step + 1
    rollouts = run.rollouts(step) if run.rollouts(step).exists() else journal_path(run, step)
    held = str(rollouts.relative_to(run.path)) if rollouts.exists() else None
    reason = f"{type(error).__name__}: {error}"
    with suppress(InputError):  # a full disk must not hide what went wrong
        log_event(run, "failed", step, error=reason, rollouts=held)
