"""Beam search: hand-computed rounds, and equality with the greedy completion where it should be."""

from dataclasses import replace

import pytest
from tiny_models import EOS, build_model, byte_tokenizer, make_prompts

from open_rs.errors import InputError
from open_rs.recipe import BeamSearch, recipe_from_dict
from open_rs.rollout.beam import BeamEngine
from open_rs.rollout.build import with_search
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, Rollout, RolloutGroup, SamplingParams

END = 9


class StepByStep:
    """Says `steps[completion so far]` in turn: (ids, log-probs, finish reason)."""

    name = "steps"
    max_slots = 8
    fit = None
    stats = None
    harness = {"engine": "steps"}  # noqa: RUF012
    eos_token_ids = [END]  # noqa: RUF012

    class tokenizer:
        @staticmethod
        def decode(ids, skip_special_tokens):
            assert skip_special_tokens
            return " ".join(str(one) for one in ids if one != END)

    def __init__(self, steps):
        self.steps, self.asked = steps, []

    def generate(self, prompts, *, group_size, params, seed, step):
        groups = []
        for prompt in prompts:
            done = tuple(prompt.prompt_ids[2:])
            self.asked.append((prompt.problem.id, done, group_size, params.max_completion_tokens))
            said = self.steps[done]
            assert len(said) == group_size
            rollouts = [
                Rollout(list(ids), list(logprobs), "", reason, sample)
                for sample, (ids, logprobs, reason) in enumerate(said)
            ]
            groups.append(RolloutGroup(prompt.problem, prompt.prompt_ids, rollouts))
        return groups


def search(engine, prompts, *, cap=6, group_size=1, temperature=1.0, seed=0, skip=(), **spec):
    beam = BeamEngine(engine, BeamSearch(**spec))
    groups = beam.generate(
        prompts,
        group_size=group_size,
        params=SamplingParams(max_completion_tokens=cap, temperature=temperature),
        seed=seed,
        skip=skip,
    )
    return beam, groups


def test_two_rounds_by_hand():
    steps = {
        (): [
            ((1,), (-0.5,), "stop"),
            ((2, 2), (-0.1, -0.3), "length"),  # mean -0.2
            ((3, END), (-0.4, -0.4), "stop"),  # ended, mean -0.4
            ((2, 2), (-0.1, -0.3), "length"),  # again: dropped
        ],
        # of width 2 there stay (2, 2) at -0.2 and (3, END) at -0.4; (1,) at -0.5 goes
        (2, 2): [
            ((4, END), (-0.1, -0.1), "stop"),  # (-0.4 - 0.2) / 4 = -0.15
            ((5,), (-2.0,), "stop"),  # (-0.4 - 2.0) / 3 = -0.8
        ],
    }
    engine = StepByStep(steps)
    prompts = make_prompts([2])
    beam, (group,) = search(engine, prompts, width=2, branch=2, step_tokens=2)
    (found,) = group.rollouts
    assert found.completion_ids == [2, 2, 4, END]
    assert found.engine_logprobs == [-0.1, -0.3, -0.1, -0.1]
    assert (found.completion, found.finish_reason) == ("2 2 4", "stop")
    assert found.drawn == [[1, 2, 2, 2], [2, 1]]
    assert found.drawn_tokens == 10 == beam.stats.completion_tokens
    assert found.read_tokens == 4  # the second round reads 2 of the prompt and 2 of the beam
    assert [tokens for tokens, _ in found.kept] == [4, 2]
    assert [mean for _, mean in found.kept] == pytest.approx([-0.15, -0.4])
    # 2 x 2 from the prompt, then 2 for the one beam that goes on
    assert engine.asked == [("p0/0.0.0", (), 4, 2), ("p0/0.1.0", (2, 2), 2, 2)]


def test_the_cap_ends_a_completion_and_bounds_the_last_step():
    steps = {
        (): [((1, 1), (-0.1, -0.1), "length")],
        (1, 1): [((2,), (-0.1,), "length")],
    }
    engine = StepByStep(steps)
    _, (group,) = search(engine, make_prompts([2]), cap=3, width=1, branch=1, step_tokens=2)
    assert (group.rollouts[0].completion_ids, group.rollouts[0].finish_reason) == (
        [1, 1, 2],
        "length",
    )
    assert [asked[3] for asked in engine.asked] == [2, 1]


def test_an_ended_beam_stays_only_while_it_is_among_the_best():
    steps = {
        (): [((3, END), (-0.9, -0.9), "stop"), ((1,), (-0.1,), "stop")],
        (1,): [((4, END), (-0.1, -0.1), "stop")],
    }
    _, (group,) = search(StepByStep(steps), make_prompts([2]), width=2, branch=1, step_tokens=2)
    found = group.rollouts[0]
    assert found.completion_ids == [1, 4, END]
    assert [tokens for tokens, _ in found.kept] == [3, 2]


@pytest.fixture(scope="module")
def native():
    return NativeEngine(build_model("llama"), byte_tokenizer(), max_slots=4)


def by_sample(groups):
    return {
        (group.problem.id, one.sample): (one.completion_ids, one.drawn, one.read_tokens)
        for group in groups
        for one in group.rollouts
    }


@pytest.mark.parametrize("step_tokens", [1, 5, 64])
def test_greedy_with_one_branch_is_the_greedy_completion(native, step_tokens):
    prompts = make_prompts((9, 17, 40))
    params = SamplingParams(max_completion_tokens=20, temperature=0.0)
    plain = native.generate(prompts, group_size=1, params=params, seed=0)
    _, groups = search(
        native, prompts, cap=20, temperature=0.0, width=1, branch=1, step_tokens=step_tokens
    )
    for expected, found in zip(plain, groups, strict=True):
        (one,), (other,) = expected.rollouts, found.rollouts
        assert other.completion_ids == one.completion_ids
        assert other.finish_reason == one.finish_reason
        assert other.completion == one.completion
        assert other.engine_logprobs == pytest.approx(one.engine_logprobs, abs=1e-5)
        assert other.drawn_tokens == len(one.completion_ids)


def test_one_step_of_one_candidate_is_a_sample_of_its_name(native):
    # a step as long as the cap: the only round draws what a sample of the problem p0/0.0.0 is
    (prompt,) = make_prompts([12])
    _, (group,) = search(native, [prompt], cap=20, width=1, branch=1, step_tokens=20, step_end="")
    named = Prompt(replace(prompt.problem, id="p0/0.0.0"), prompt.prompt_ids)
    params = SamplingParams(max_completion_tokens=20)
    (plain,) = native.generate([named], group_size=1, params=params, seed=0)
    assert group.rollouts[0].completion_ids == plain.rollouts[0].completion_ids
    assert group.rollouts[0].engine_logprobs == plain.rollouts[0].engine_logprobs


def test_one_round_of_n_is_best_of_n_by_mean_logprob(native):
    (prompt,) = make_prompts([12])
    _, (group,) = search(native, [prompt], cap=20, width=6, branch=1, step_tokens=20, step_end="")
    named = Prompt(replace(prompt.problem, id="p0/0.0.0"), prompt.prompt_ids)
    params = SamplingParams(max_completion_tokens=20)
    (plain,) = native.generate([named], group_size=6, params=params, seed=0)
    means = [sum(one.engine_logprobs) / len(one.engine_logprobs) for one in plain.rollouts]
    best = plain.rollouts[means.index(max(means))]
    assert group.rollouts[0].completion_ids == best.completion_ids
    assert group.rollouts[0].drawn == [[len(one.completion_ids) for one in plain.rollouts]]


def test_a_search_is_its_own_whatever_runs_beside_it(native):
    prompts = make_prompts((9, 17, 40, 12))
    spec = {"cap": 16, "group_size": 2, "width": 2, "branch": 2, "step_tokens": 4}
    together = by_sample(search(native, prompts, **spec)[1])
    for prompt in prompts:
        alone = by_sample(search(native, [prompt], **spec)[1])
        assert alone == {key: together[key] for key in alone}
    first, second = (together["p1", sample][0] for sample in (0, 1))
    assert first != second  # the samples of one problem are two searches
    part = by_sample(search(native, prompts, skip={("p1", 0), ("p3", 1)}, **spec)[1])
    assert part == {key: together[key] for key in part} and len(part) == 6


def test_the_end_of_a_step_is_a_text(native):
    prompts = make_prompts((9, 17, 40, 12, 13, 14))
    spec = {"cap": 60, "width": 1, "branch": 1, "step_tokens": 60}
    _, groups = search(native, prompts, step_end="", **spec)
    texts = [group.rollouts[0].completion for group in groups]
    assert all(len(group.rollouts[0].drawn) == 1 for group in groups)
    letter = next(one for one in texts[0][5:] if one.isascii() and one.isprintable())
    _, groups = search(native, prompts, step_end=letter, **spec)
    for before, group in zip(texts, groups, strict=True):
        (one,) = group.rollouts
        ends = one.completion.count(letter)
        if one.completion.endswith(letter) and one.finish_reason == "length":
            ends -= 1
        assert len(one.drawn) == ends + 1
        first = before.partition(letter)  # the first step draws what it drew before
        assert one.completion.startswith(first[0] + first[1])
    assert len(groups[0].rollouts[0].drawn) > 1


def test_of_more_candidates_a_likelier_one_is_kept(native):
    prompts = make_prompts([9 + n for n in range(8)])
    means = []
    for branch in (1, 4):
        _, groups = search(native, prompts, cap=16, width=1, branch=branch, step_tokens=4)
        means.append(sum(group.rollouts[0].kept[0][1] for group in groups) / len(groups))
    assert means[1] > means[0] + 0.1


def test_refusals(native):
    beam = BeamEngine(native, BeamSearch())
    params = SamplingParams(max_completion_tokens=4, stop=("x",))
    with pytest.raises(InputError, match="stop strings end steps here"):
        beam.generate(make_prompts([9]), group_size=1, params=params, seed=0)
    endpoint = {"type": "openai", "base_url": "http://localhost:1/v1", "model": "m"}
    recipe = recipe_from_dict(
        {"rollout": {"engine": endpoint}, "evaluate": {"search": {"type": "beam"}}}, where="here"
    )
    with pytest.raises(InputError, match="the embedded engine alone can go on"):
        with_search(GradedSampler(native, None, None), recipe)
    plain = GradedSampler(native, None, None)
    assert with_search(plain, recipe_from_dict({}, where="here")) is plain
    with pytest.raises(InputError, match=r"evaluate.search.width"):
        recipe_from_dict({"evaluate": {"search": {"type": "beam", "width": 0}}}, where="here")
    with pytest.raises(InputError, match=r"evaluate.search.*'beam'"):
        recipe_from_dict({"evaluate": {"search": {"type": "mcts"}}}, where="here")


def test_the_search_stands_in_the_fingerprint(native):
    told = BeamEngine(native, BeamSearch(width=2)).harness
    assert told["engine"] == "native"
    assert told["search"] == {
        "type": "beam",
        "width": 2,
        "branch": 4,
        "step_tokens": 32,
        "step_end": "\n",
    }
    assert EOS in native.eos_token_ids
