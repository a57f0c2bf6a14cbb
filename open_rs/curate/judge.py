"""A language model's verdict on problems: questions for yes or no, asked several times."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from open_rs.console import progress
from open_rs.curate.answers import (
    Answers,
    answering,
    answers_key,
    asking_recipe,
    undecided_rows,
)
from open_rs.curate.stages import Drop, Judge, Note, Row, Setting, Verdict
from open_rs.problems import Problem
from open_rs.prompts import JUDGE_QUESTIONS, judge_prompt
from open_rs.recipe import JudgeFilter, OpenAIEngineSpec, Recipe
from open_rs.rollout.protocol import SamplingParams

if TYPE_CHECKING:
    from open_rs.rollout.graded import GradedSampler
    from open_rs.rollout.protocol import Prompt, Rollout

STREAM = -2  # the judge's noise stream, apart from that of pass rates
PROBLEMS_AT_ONCE = 256  # between two looks at how many rows are undecided
FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```", re.DOTALL)
YES_NO = {True: "yes", False: "no"}
Opinion = dict[str, bool]  # the answers of one vote by the name of the question


def questions_of(spec: JudgeFilter) -> dict[str, tuple[str, bool]]:
    """What is asked and the answer that keeps a row, by name, in the order of asking."""
    named = {name: JUDGE_QUESTIONS[name] for name in spec.questions}
    return named | {one.name: (one.ask, one.keep) for one in spec.own}


def judging_recipe(recipe: Recipe, spec: JudgeFilter) -> Recipe:
    """The recipe by which the judge is asked: its model, engine, prompt and sampling."""
    recipe = asking_recipe(recipe, spec)
    names = questions_of(spec)
    engine = recipe.rollout.engine
    prompt = judge_prompt({name: ask for name, (ask, _) in names.items()}, spec.max_prompt_tokens)
    renders_here = True
    if isinstance(engine, OpenAIEngineSpec):
        renders_here = engine.resolved(recipe.model.path).mode == "completions"
        if spec.structured:
            body = {**engine.extra_body, "response_format": response_format(list(names))}
            engine = engine.model_copy(update={"extra_body": body})
    if spec.model is None and renders_here:
        prompt = prompt.model_copy(update={"chat_template": recipe.prompt.chat_template})
    rollout = recipe.rollout.model_copy(update={"engine": engine})
    return recipe.model_copy(update={"rollout": rollout, "prompt": prompt})


def response_format(names: Sequence[str]) -> Row:
    """The JSON schema of an opinion, as OpenAI's API, vLLM and llama.cpp take it."""
    schema = {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in names},
        "required": list(names),
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "opinion", "strict": True, "schema": schema},
    }


def judge_params(spec: JudgeFilter) -> SamplingParams:
    return SamplingParams(
        max_completion_tokens=spec.max_completion_tokens,
        temperature=spec.temperature,
        top_p=spec.top_p,
    )


@contextmanager
def open_judge(spec: JudgeFilter, setting: Setting) -> Iterator[Judge]:
    """Asks for the votes that the journal does not hold yet, then counts them."""
    assert setting.samplers is not None
    recipe = judging_recipe(setting.recipe, spec)
    sampler = setting.samplers.get(recipe)
    key = answers_key(answering(recipe, judge_params(spec)), sampler.prompter.fingerprint)
    answers = Answers(setting, key)
    answers.open(sampler)
    asking = Asking(spec, sampler, recipe.seed, answers)
    undecided = undecided_rows(spec)

    def judge(problems: Sequence[Problem]) -> list[Verdict]:
        verdicts: list[Verdict] = []
        for start in range(0, len(problems), PROBLEMS_AT_ONCE):
            together = problems[start : start + PROBLEMS_AT_ONCE]
            asking.ask(together)
            for one in together:
                votes = opinions(answers.of(one.id), spec)
                verdict, reason = verdict_on(votes, spec, asking.why(one))
                verdicts.append(verdict)
                undecided.count(reason)
            undecided.check()
        undecided.check(ended=True)
        return verdicts

    yield judge


class Asking:
    """Puts the questions of a judge to a model, as often as they need to be asked."""

    def __init__(
        self, spec: JudgeFilter, sampler: GradedSampler, seed: int, answers: Answers
    ) -> None:
        self.spec, self.sampler, self.seed, self.answers = spec, sampler, seed, answers
        self.names = list(questions_of(spec))
        self.too_long: set[str] = set()  # problem ids

    def ask(self, problems: Sequence[Problem]) -> None:
        """Every vote once, then those without an opinion again, up to `spec.retries` times."""
        distinct = list({one.id: one for one in problems}.values())
        prompts, too_long = self.sampler.prompter.encode_all(distinct)
        self.too_long |= {one.id for one in too_long}
        for attempt in range(1 + self.spec.retries):
            wanted = {
                (prompt.problem.id, vote + self.spec.votes * attempt)
                for prompt in prompts
                for vote in missing_votes(self.answers.of(prompt.problem.id), self.spec)
            }
            wanted = {one for one in wanted if one not in self.answers}
            if wanted:
                self._draw(prompts, wanted, attempt)

    def _draw(self, prompts: Sequence[Prompt], wanted: set[tuple[str, int]], attempt: int) -> None:
        ids = {problem_id for problem_id, _ in wanted}
        title = "judge" if attempt == 0 else f"judge, try {attempt + 1}"
        with progress(title, len(wanted)) as advance:

            def ended(prompt: Prompt, rollout: Rollout) -> None:
                opinion = read_opinion(rollout.completion, self.names)
                shown = {} if opinion else {"said": rollout.completion[:200]}
                self.answers.add(prompt.problem.id, rollout, opinion=opinion, **shown)
                advance(1)

            self.sampler.engine.generate(
                [one for one in prompts if one.problem.id in ids],
                group_size=self.spec.votes * (attempt + 1),
                params=judge_params(self.spec),
                seed=self.seed,
                step=STREAM,
                on_finished=ended,
                skip=AllBut(wanted),
                keep=False,
            )

    def why(self, problem: Problem) -> str:
        """What is to be said of a problem without enough opinions."""
        if problem.id in self.too_long:
            return f"the question is over {self.spec.max_prompt_tokens} tokens"
        return self.answers.errors.get(problem.id, "")


class AllBut:
    """A container of everything outside `wanted`: what an engine is to skip."""

    def __init__(self, wanted: set[tuple[str, int]]) -> None:
        self.wanted = wanted

    def __contains__(self, key: object) -> bool:
        return key not in self.wanted


def opinions(samples: Mapping[int, Row], spec: JudgeFilter) -> list[Opinion | None]:
    """The opinion of each vote: that of its first try that gave one. Try t of vote v is sample
    v + votes * t.
    """
    return [
        next(
            (
                samples[sample]["opinion"]
                for sample in range(vote, spec.votes * (1 + spec.retries), spec.votes)
                if sample in samples and samples[sample]["opinion"] is not None
            ),
            None,
        )
        for vote in range(spec.votes)
    ]


def missing_votes(samples: Mapping[int, Row], spec: JudgeFilter) -> list[int]:
    found = opinions(samples, spec)
    return [vote for vote in range(spec.votes) if found[vote] is None]


def read_opinion(completion: str, names: Sequence[str]) -> Opinion | None:
    """The JSON object of an answer, strictly: every question, nothing else, true or false. A
    thought before it and a code fence around it are allowed.
    """
    text = completion.rpartition("</think>")[2].strip()
    fenced = FENCED.fullmatch(text)
    try:
        pairs = json.loads(fenced[1] if fenced else text, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, _Pairs) or sorted(key for key, _ in pairs) != sorted(names):
        return None
    opinion = dict(pairs)
    return opinion if all(isinstance(one, bool) for one in opinion.values()) else None


class _Pairs(list[tuple[str, Any]]):
    """The pairs of a JSON object, so that a key that occurs twice is seen."""


def verdict_on(
    votes: Sequence[Opinion | None], spec: JudgeFilter, why: str
) -> tuple[Verdict, str | None]:
    """The verdict on a problem, and why it is undecided, None where it is not.

    An answer counts with more than half of all votes. The first question that is answered against
    the row drops it; else a question without such an answer leaves it undecided.
    """
    counted = [one for one in votes if one is not None]
    told: list[str] = []
    against: str | None = None
    open_question: str | None = None
    for name, (_, keep) in questions_of(spec).items():
        yes = sum(one[name] for one in counted)
        no = len(counted) - yes
        told.append(f"{name} {yes} yes {no} no")
        answer = True if 2 * yes > spec.votes else False if 2 * no > spec.votes else None
        if answer is None:
            open_question = open_question or name
        elif answer is not keep:
            against = against or f"judged {name}: {YES_NO[answer]}"
    detail = ", ".join(told)
    if against is not None:
        return Drop(against, detail), None
    if open_question is None:
        return None, None
    silent = len(votes) - len(counted)
    reason = why or ("no readable answer" if silent else f"votes on {open_question} are tied")
    said = f"{detail}; {reason}"
    return (Drop if spec.undecided == "drop" else Note)("judge undecided", said), reason


def judge_inputs(spec: JudgeFilter, recipe: Recipe) -> Row:
    """What decides the verdicts beside the settings of the filter."""
    asking = judging_recipe(recipe, spec)
    settings = answering(asking, judge_params(spec))
    prompt = asking.prompt.model_dump(mode="json")
    return {"answers": {answers_key(settings, prompt): {**settings, "prompt": prompt}}}
