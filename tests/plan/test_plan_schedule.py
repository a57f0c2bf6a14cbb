"""What is counted of calls and updates: by hand, and against the engine and the trainer."""

import numpy as np
import torch

from open_rs.models import load_model, load_tokenizer
from open_rs.plan.learnt import pass_of, row_of
from open_rs.plan.schedule import Group, Pass, decoding, passes
from open_rs.problems import Problem
from open_rs.prompts import Prompter
from open_rs.recipe import ModelRecipe, PromptRecipe
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.slots import Slots
from open_rs.train.batches import make_batches


def test_a_call_by_hand():
    made = decoding([Group(10, (3, 1)), Group(20, (2,))], slots=2)
    # rows end at steps 3, 1; the third starts in the slot that is free after step 1, ends at 3
    assert made.ends.tolist() == [3, 1, 3]
    # step 1: rows at 11 and 11; step 2: the first at 12, the third at 21; step 3: 13 and 22
    assert made.longest == 22
    calls, steps, rows, positions, prompts, ended = made.total
    assert (calls, steps, rows, ended) == (1, 3, 6, 3)
    assert positions == 2 * 11 + 2 * 21 + 2 * 22
    assert prompts == 30
    assert made.work[1].tolist() == [1, 1, 2, 22, 10, 1]


def test_the_engine_takes_the_steps_that_are_counted(monkeypatch):
    recipe = ModelRecipe(path="tiny", device="cpu")
    model, tokenizer = load_model(recipe), load_tokenizer(recipe)
    prompter = Prompter(tokenizer, PromptRecipe())
    prompts = [prompter.encode(Problem(f"p{n}", f"{n} + {n}", str(2 * n))) for n in range(5)]
    live, plain = [], Slots.step

    def step(self):
        live.append(len(self.rows))
        return plain(self)

    monkeypatch.setattr(Slots, "step", step)
    params = SamplingParams(max_completion_tokens=40, temperature=1.0)
    groups = NativeEngine(model, tokenizer, max_slots=6).generate(
        prompts, group_size=3, params=params, seed=0
    )
    made = decoding(
        [Group(len(g.prompt_ids), tuple(r.num_tokens for r in g.rollouts)) for g in groups], 6
    )
    assert made.total[1] == len(live)
    assert made.total[2] == sum(live)
    assert np.diff(made.work[:, 2]).tolist() == live


def test_micro_batches_by_hand():
    groups = [Group(5, (4, 6)), Group(9, (2,), taught=False)]
    [packed] = passes(groups, 100, packed=True, all_rows=False)
    # heads of 4 once, tails of 4 and 6; pairs 4 * 4 / 2, 4 * (4 + 2), 6 * (4 + 3)
    assert packed == Pass(forwarded=14, scored=10, pairs=8 + 24 + 42)
    [padded] = passes(groups, 100, packed=False, all_rows=False)
    assert padded == Pass(forwarded=22, scored=10, pairs=2 * 11**2 / 2)
    assert sum(one.scored for one in passes(groups, 100, packed=True, all_rows=True)) == 12
    assert len(passes(groups, 11, packed=False, all_rows=True)) == 3


def test_micro_batches_are_those_of_the_trainer():
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 30, (6, 4), generator=draw).tolist()
    prompts = torch.randint(3, 20, (6,), generator=draw).tolist()
    groups = [Group(p, tuple(row)) for p, row in zip(prompts, lengths, strict=True)]
    rows = [
        row_of([number] * group.prompt, [1] * length, place)
        for number, group in enumerate(groups)
        for place, length in enumerate(group.lengths)
    ]
    for packed in (True, False):
        batches = make_batches(
            rows, micro_batch_tokens=90, loss_norm="token", max_completion_tokens=30, packed=packed
        )
        made = passes(groups, 90, packed=packed, all_rows=False)
        assert [pass_of(batch) for batch in batches] == made
        assert [one.forwarded for one in made] == [batch.tokens for batch in batches]
