"""The shipped rewards: plain functions of a graded rollout and its problem, one of its group too.

Each returns a number, or None where the grade is undecided. Lengths are in tokens. No torch.
"""

import math
from collections.abc import Sequence

from open_rs.grade import Grade
from open_rs.problems import Problem
from open_rs.rollout.protocol import Rollout, RolloutGroup
from open_rs.scripts import outside_share


def accuracy_reward(rollout: Rollout, problem: Problem) -> float | None:
    """1 if the answer is correct, 0 if wrong or missing, None if the grader could not decide."""
    grade = grade_of(rollout)
    return float(grade.correct) if grade.decided else None


def format_reward(rollout: Rollout, problem: Problem, *, template_opens_think: bool) -> float:
    """1 if the whole completion is one closed, non-empty thought and then a non-empty answer.

    `<think>`, thought, `</think>`, answer, with nothing before and each tag once. Where the chat
    template ends the prompt with `<think>` (`template_opens_think`), the completion begins inside
    the thought. Tags `<answer>` around the answer are welcome but are not an answer themselves.
    """
    text = rollout.completion.strip()
    if not template_opens_think:
        if not text.startswith("<think>"):
            return 0.0
        text = text.removeprefix("<think>")
    if "<think>" in text or text.count("</think>") != 1:
        return 0.0
    thought, answer = text.split("</think>")
    answer = answer.replace("<answer>", "").replace("</answer>", "")
    return 1.0 if thought.strip() and answer.strip() else 0.0


def cosine_reward(
    rollout: Rollout,
    problem: Problem,
    *,
    max_completion_tokens: int,
    max_correct: float = 1.0,
    min_correct: float = 0.5,
    min_wrong: float = -0.5,
    max_wrong: float = 0.0,
    truncated: float | None = None,
) -> float | None:
    """end + (start - end) (1 + cos(pi L / L_max)) / 2, L in tokens, clamped to [0, L_max].

    Correct: start = max_correct, end = min_correct. Wrong: start = min_wrong, end = max_wrong. So
    shorter correct answers earn more and longer wrong ones lose less (arXiv 2502.03373, C.1). A
    completion that was cut off earns `truncated` where that is set. None where undecided.
    """
    grade = grade_of(rollout)
    if not grade.decided:
        return None
    if truncated is not None and rollout.finish_reason == "length":
        return truncated
    progress = min(rollout.num_tokens / max_completion_tokens, 1.0)
    start, end = (max_correct, min_correct) if grade.correct else (min_wrong, max_wrong)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def soft_overlong_penalty(
    length: int, *, max_completion_tokens: int, overlong_buffer: int
) -> float:
    """0 up to L_max - buffer, then linear to -1 at L_max, -1 beyond; lengths in tokens.

    DAPO's soft overlong punishment, arXiv 2503.14476, eq. 13.
    """
    over = length - (max_completion_tokens - overlong_buffer)
    return -min(max(over / overlong_buffer, 0.0), 1.0)


def overlong_reward(
    rollout: Rollout,
    problem: Problem,
    *,
    max_completion_tokens: int,
    overlong_buffer: int | None = None,
) -> float:
    """`soft_overlong_penalty` of the completion's tokens; without a buffer it is a fifth of the
    cap, and it is never longer than that.
    """
    buffer = overlong_buffer or max(1, max_completion_tokens // 5)
    return soft_overlong_penalty(
        rollout.num_tokens,
        max_completion_tokens=max_completion_tokens,
        overlong_buffer=min(buffer, max_completion_tokens),
    )


def repetition_reward(rollout: Rollout, problem: Problem, *, ngram_size: int) -> float:
    """-(1 - distinct n-grams / n-grams) of the completion's tokens; 0 with fewer than n tokens.

    Range (-1, 0]: 0 where no n-gram occurs twice. Tokens need no spaces between words, so it works
    on Chinese as on English. The n-gram penalty of Yeo et al. (arXiv 2502.03373) as one number per
    completion, with the magnitude left to the weight.
    """
    return -repeated_share(rollout.completion_ids, ngram_size)


def repeated_share(ids: Sequence[int], ngram_size: int) -> float:
    """1 - distinct n-grams / n-grams of these tokens; 0 with fewer than n of them."""
    total = len(ids) - ngram_size + 1
    if total < 1:
        return 0.0
    distinct = len(set(zip(*(ids[start:] for start in range(ngram_size)), strict=False)))
    return 1 - distinct / total


def language_reward(rollout: Rollout, problem: Problem, *, scripts: tuple[str, ...]) -> float:
    """1 - share of the completion's letters outside `scripts`, 1 where there are no letters.

    Thought and answer count, mathematics and code do not (`scripts:outside_share`). Range [0, 1].
    The reward against language drift that the Open-RS paper wanted and left out for its cost.
    """
    return 1 - outside_share(rollout.completion, scripts)


def group_length_reward(rollout: Rollout, problem: Problem, *, group: RolloutGroup) -> float | None:
    """lambda if correct, min(0, lambda) if not; lambda = 1/2 - (L - min L) / (max L - min L).

    min and max over the decided rollouts of the same prompt; 0 where they all have one length.
    Range [-1/2, 1/2]: the shortest correct answer earns 1/2, the longest of all -1/2. Kimi k1.5,
    arXiv 2501.12599, section 2.3.3. None where undecided.
    """
    grade = grade_of(rollout)
    if not grade.decided:
        return None
    lengths = [one.num_tokens for one in group.rollouts if grade_of(one).decided]
    shortest, longest = min(lengths), max(lengths)
    if shortest == longest:
        return 0.0
    value = 0.5 - (rollout.num_tokens - shortest) / (longest - shortest)
    return value if grade.correct else min(0.0, value)


def grade_of(rollout: Rollout) -> Grade:
    """The grade, which must be there before any reward is asked for."""
    if rollout.grade is None:
        raise ValueError("the rollout has no grade; grade before scoring")
    return rollout.grade
