"""The native engine against transformers' generate, full forwards, and a float64 oracle."""

from collections import Counter

import numpy as np
import pytest
import torch
from sampling_oracle import full_logits, interval, probabilities, uniform
from tiny_models import EOS, MIXED, VOCAB, build_model, byte_tokenizer, make_prompts

from open_rs.errors import GuardStop
from open_rs.models import add_lora
from open_rs.recipe import LoraRecipe
from open_rs.rollout import forward
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.slots import Slots

LENGTHS = (1, 2, 5, 17, 16, 40, 9)
MODELS = {
    "qwen2": ("qwen2", {}),
    "qwen2_windows": ("qwen2", {"use_sliding_window": True, **MIXED}),
    "llama": ("llama", {}),
    "llama_eager": ("llama", {"attn_implementation": "eager"}),
    "mistral_window": ("mistral", {"sliding_window": 8}),
    "gemma2": ("gemma2", MIXED),
    "gemma3": ("gemma3_text", MIXED),
}
BORDER = 1e-5  # the float caveat: how close to a border of the CDF rounding may decide


@pytest.fixture(scope="module")
def tokenizer():
    return byte_tokenizer()


def model_of(name, **changes):
    kind, settings = MODELS[name]
    return build_model(kind, **{**settings, **changes})


def sample(engine, prompts, group_size=1, cap=24, seed=3, step=0, **settings):
    params = SamplingParams(max_completion_tokens=cap, **settings)
    return engine.generate(prompts, group_size=group_size, params=params, seed=seed, step=step)


def ids_by_problem(groups):
    return {g.problem.id: [r.completion_ids for r in g.rollouts] for g in groups}


def reference(model, prompt, cap, eos):
    """transformers' own greedy completion of one prompt."""
    ids = torch.tensor([prompt.prompt_ids])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=cap,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=257,
    )
    return output[0, len(prompt.prompt_ids) :].tolist()


@pytest.mark.parametrize("name", MODELS)
def test_greedy_equals_generate_with_eos_inside_and_at_the_cap(name, tokenizer):
    model = model_of(name)
    prompts = make_prompts(LENGTHS)
    free = [reference(model, prompt, 24, None) for prompt in prompts]
    # an EOS set of two tokens that the model writes, early and late in two of the completions
    eos = sorted({free[3][4], free[5][20]})
    # what generate gives with that EOS set
    ends = [[k for k, token in enumerate(ids, start=1) if token in eos] for ids in free]
    expected = [ids[: (end or [24])[0]] for ids, end in zip(free, ends, strict=True)]
    assert expected[5] == reference(model, prompts[5], 24, eos)
    assert len({len(ids) for ids in expected}) > 1  # some end, some run into the cap
    engine = NativeEngine(model, tokenizer, max_slots=4, eos_token_ids=eos)
    for prompt, group, ids in zip(
        prompts, sample(engine, prompts, temperature=0.0), expected, strict=True
    ):
        rollout = group.rollouts[0]
        assert rollout.completion_ids == ids
        assert rollout.finish_reason == ("stop" if ids[-1] in eos else "length")
        assert len(ids) == 24 or ids[-1] in eos
        assert group.problem is prompt.problem and group.prompt_ids == prompt.prompt_ids


def test_eos_as_the_last_token_of_the_cap_is_a_stop(tokenizer):
    model = model_of("qwen2")
    prompt = make_prompts([5])[0]
    ids = reference(model, prompt, 12, [EOS])
    last = next(k for k in range(3, 12) if ids[k] not in ids[:k])
    engine = NativeEngine(model, tokenizer, eos_token_ids=[ids[last]])
    for cap, reason in ((last, "length"), (last + 1, "stop"), (last + 2, "stop")):
        rollout = sample(engine, [prompt], cap=cap, temperature=0.0)[0].rollouts[0]
        assert rollout.finish_reason == reason
        assert rollout.completion_ids == ids[: min(cap, last + 1)]


def test_eos_set_is_that_of_generation_config_and_tokenizer(tokenizer):
    model = model_of("qwen2")
    engine = NativeEngine(model, tokenizer)
    assert engine.eos_token_ids == [EOS]
    model.generation_config.eos_token_id = [7, 261]
    assert engine.eos_token_ids == [7, EOS, 261]
    model.generation_config.eos_token_id = None
    assert engine.eos_token_ids == [EOS]
    assert NativeEngine(model, tokenizer, eos_token_ids=[9, 3, 9]).eos_token_ids == [3, 9]


def test_without_any_eos_all_rows_run_to_the_cap(tokenizer):
    engine = NativeEngine(model_of("qwen2"), tokenizer, eos_token_ids=[])
    rollouts = sample(engine, make_prompts([3, 4]), group_size=2, cap=9)
    assert {len(r.completion_ids) for g in rollouts for r in g.rollouts} == {9}


@pytest.mark.parametrize("name", ["qwen2", "gemma2", "gemma3"])
def test_text_depends_neither_on_slots_nor_order_nor_neighbours(name, tokenizer):
    model = model_of(name)
    prompts = make_prompts(LENGTHS)
    eos = list(range(0, VOCAB, 8))  # rows end at very different lengths

    def ids(some, slots, group_size=2):
        engine = NativeEngine(model, tokenizer, max_slots=slots, eos_token_ids=eos)
        return ids_by_problem(sample(engine, some, group_size, cap=20, temperature=0.9))

    whole = ids(prompts, 64)
    lengths = Counter(len(completion) for group in whole.values() for completion in group)
    assert len(lengths) > 4
    assert ids(prompts, 1) == whole
    assert ids(prompts, 3) == whole
    assert ids(prompts[::-1], 5) == whole
    for prompt in prompts[3:5]:
        assert ids([prompt], 2) == {prompt.problem.id: whole[prompt.problem.id]}
    # a larger group only adds samples
    larger = ids(prompts[:2], 64, group_size=4)
    assert all(larger[name][:2] == whole[name] for name in larger)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("qwen2", {"temperature": 1.0}),
        ("gemma2", {"temperature": 0.6, "top_p": 0.9}),
        ("llama", {"temperature": 1.3, "top_k": 12}),
        ("gemma3", {"temperature": 0.8, "top_k": 30, "top_p": 0.7}),
    ],
)
def test_every_token_and_logprob_against_the_oracle(name, settings, tokenizer):
    """Plain forward, float64 distribution, Python's Philox: the token is the one whose interval of
    the CDF holds the uniform, up to the float caveat, and almost always exactly."""
    model = model_of(name)
    groups = sample(
        NativeEngine(model, tokenizer, max_slots=5, eos_token_ids=list(range(0, VOCAB, 25))),
        make_prompts(LENGTHS),
        group_size=4,
        cap=20,
        seed=8,
        step=2,
        **settings,
    )
    tokens = outside = 0
    for group in groups:
        for rollout in group.rollouts:
            logits = full_logits(model, group.prompt_ids, rollout.completion_ids)
            for position, token in enumerate(rollout.completion_ids):
                drawn_from = probabilities(logits[position], **settings)
                low, high = interval(drawn_from, token)
                u = uniform(8, 2, group.problem.id, rollout.sample, position)
                assert low - BORDER <= u <= high + BORDER
                whole = probabilities(logits[position], settings["temperature"])
                expected = np.log(whole[token])  # before top-k and top-p
                assert rollout.engine_logprobs[position] == pytest.approx(expected, abs=2e-5)
                tokens += 1
                outside += not low <= u < high
    assert tokens > 200
    assert outside <= tokens * 0.002  # about V x 1e-6 of the draws may lie that close to a border


def test_greedy_logprobs_are_those_of_temperature_one(tokenizer):
    model = model_of("llama")
    group = sample(NativeEngine(model, tokenizer), make_prompts([6]), temperature=0.0)[0]
    rollout = group.rollouts[0]
    logits = torch.tensor(full_logits(model, group.prompt_ids, rollout.completion_ids))
    ids = torch.tensor(rollout.completion_ids)
    expected = logits.log_softmax(-1).gather(1, ids[:, None])[:, 0]
    assert torch.allclose(torch.tensor(rollout.engine_logprobs).double(), expected, atol=2e-5)


def test_the_float_caveat_of_batch_shapes(tokenizer, monkeypatch):
    """Rows in batches of 1 and of 24, not in blocks, as on a device that promises nothing: equal
    tokens, log-probs that move by 1e-6 or so.
    """
    monkeypatch.setattr(forward, "BLOCK_ROWS", 1)
    model = model_of("qwen2")
    prompts = make_prompts([7] * 12)
    one, many = (
        sample(NativeEngine(model, tokenizer, max_slots=slots), prompts, 2, cap=10)
        for slots in (1, 64)
    )
    assert ids_by_problem(one) == ids_by_problem(many)
    moved = np.array(
        [
            np.subtract(a.engine_logprobs, b.engine_logprobs)
            for left, right in zip(one, many, strict=True)
            for a, b in zip(left.rollouts, right.rollouts, strict=True)
        ]
    )
    assert 0 < np.abs(moved).max() < 5e-5 and np.median(np.abs(moved)) < 2e-6


def test_seed_step_and_problem_change_the_text_and_nothing_else_does(tokenizer):
    engine = NativeEngine(model_of("qwen2"), tokenizer)
    prompts = make_prompts([4])
    base = ids_by_problem(sample(engine, prompts, 2))
    assert ids_by_problem(sample(engine, prompts, 2)) == base
    assert ids_by_problem(sample(engine, prompts, 2, seed=4)) != base
    assert ids_by_problem(sample(engine, prompts, 2, step=1)) != base
    assert ids_by_problem(sample(engine, prompts, 2, step=-1)) != base
    assert base["p0"][0] != base["p0"][1]
    renamed = make_prompts([4], prefix="q")
    assert list(ids_by_problem(sample(engine, renamed, 2)).values()) != list(base.values())


def test_lora_adapters_are_sampled_from(tokenizer):
    plain = reference(build_model("qwen2"), make_prompts([8])[0], 20, [EOS])
    wrapped = add_lora(build_model("qwen2"), LoraRecipe(rank=4, alpha=64))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:  # starts as zeros, which change nothing
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    wrapped.train()
    engine = NativeEngine(wrapped, tokenizer, max_slots=2)
    prompts = make_prompts([8, 3, 20])
    groups = sample(engine, prompts, cap=20, temperature=0.0)
    assert wrapped.training
    wrapped.eval()
    for prompt, group in zip(prompts, groups, strict=True):
        assert group.rollouts[0].completion_ids == reference(wrapped, prompt, 20, [EOS])
    assert groups[0].rollouts[0].completion_ids != plain


def test_weights_changed_in_place_and_loaded_weights_are_sampled_from(tokenizer):
    model = model_of("llama")
    engine = NativeEngine(model, tokenizer)
    prompts = make_prompts([6, 9])
    before = ids_by_problem(sample(engine, prompts, temperature=0.0))
    with torch.no_grad():
        model.lm_head.weight.copy_(model.lm_head.weight.flip(0).clone())
    after = ids_by_problem(sample(engine, prompts, temperature=0.0))
    assert after == {p.problem.id: [reference(model, p, 24, [EOS])] for p in prompts} != before
    engine.load_weights(model_of("llama"))
    assert ids_by_problem(sample(engine, prompts, temperature=0.0)) == before


# --- what is computed ------------------------------------------------------------------------


@pytest.fixture
def decoding_rows(monkeypatch):
    """The number of live rows of each decoding step, as they happen."""
    rows, step = [], Slots.step

    def counted(self):
        rows.append(len(self.rows))
        return step(self)

    monkeypatch.setattr(Slots, "step", counted)
    return rows


@pytest.mark.parametrize("slots", [3, 64])
def test_prompts_are_prefilled_once_and_shared_by_their_group(slots, tokenizer, decoding_rows):
    model = model_of("qwen2")
    engine = NativeEngine(model, tokenizer, max_slots=slots, eos_token_ids=[])
    sample(engine, make_prompts([2]), cap=1)  # the first call of all tries the way of decoding
    decoding_rows.clear()
    fed = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda module, args: fed.append(tuple(args[0].shape))
    )
    sample(engine, make_prompts([21] * 5), group_size=8, cap=6)
    # 5 prompts of 21 tokens, the last of which is fed as each rollout's first decoding step
    assert sum(rows * tokens for rows, tokens in fed if tokens > 1) == 5 * 20
    assert sum(decoding_rows) == 5 * 8 * 6
    assert engine.stats.prompt_tokens == 5 * 21
    assert engine.stats.completion_tokens == 5 * 8 * 6
    assert engine.stats.seconds > 0


def scheduled(lengths, slots):
    """Rows per decoding step when each slot that ends is refilled at once."""
    waiting, live, rows = list(lengths), [], []
    while waiting or live:
        while waiting and len(live) < slots:
            live.append(waiting.pop(0))
        rows.append(len(live))
        live = [left - 1 for left in live if left > 1]
    return rows


@pytest.mark.parametrize("slots", [1, 3, 7, 64])
def test_freed_slots_are_refilled_at_once_and_the_tail_gets_narrower(
    slots, tokenizer, decoding_rows
):
    model = model_of("qwen2")
    engine = NativeEngine(model, tokenizer, max_slots=slots, eos_token_ids=range(0, VOCAB, 12))
    groups = sample(engine, make_prompts([4] * 6), group_size=3, cap=30)
    lengths = [len(r.completion_ids) for g in groups for r in g.rollouts]
    assert len(set(lengths)) > 6
    assert decoding_rows == scheduled(lengths, slots)
    assert sum(decoding_rows) == sum(lengths)  # no row is fed after its end


def test_long_and_short_prompts_in_one_batch_of_the_prefill_do_not_mix(tokenizer):
    model = model_of("gemma2")
    prompts = make_prompts([200, 1, 2, 190, 1, 30, 180, 150] * 3)
    ids = ids_by_problem(
        sample(NativeEngine(model, tokenizer, max_slots=5), prompts, cap=5, temperature=0.0)
    )
    assert ids == {p.problem.id: [reference(model, p, 5, [EOS])] for p in prompts}


# --- callbacks, modes, guards ----------------------------------------------------------------


def test_on_finished_sees_every_rollout_as_it_ends(tokenizer):
    engine = NativeEngine(
        model_of("qwen2"), tokenizer, max_slots=4, eos_token_ids=range(0, VOCAB, 10)
    )
    prompts = make_prompts([3, 8, 5])
    seen = []
    groups = engine.generate(
        prompts,
        group_size=3,
        params=SamplingParams(30),
        seed=0,
        on_finished=lambda prompt, rollout: seen.append((prompt.problem.id, rollout)),
    )
    given = [(g.problem.id, r) for g in groups for r in g.rollouts]
    assert len(seen) == 9 and {id(r) for _, r in seen} == {id(r) for _, r in given}
    assert {(name, r.sample) for name, r in seen} == {
        (p, s) for p in ("p0", "p1", "p2") for s in range(3)
    }
    assert [r.sample for g in groups for r in g.rollouts] == [0, 1, 2] * 3


def test_skipped_samples_are_not_drawn_and_the_others_are_the_same(tokenizer):
    engine = NativeEngine(
        model_of("qwen2"), tokenizer, max_slots=4, eos_token_ids=range(0, VOCAB, 10)
    )
    prompts = make_prompts([3, 8, 5, 1])
    settings = {"group_size": 3, "params": SamplingParams(30), "seed": 0}
    whole = engine.generate(prompts, **settings)
    drawn = engine.stats.completion_tokens
    skip = {("p0", 1), ("p1", 0), ("p1", 1), ("p1", 2), ("p3", 0)}
    rest = engine.generate(prompts, **settings, skip=skip)
    expected = [[r for r in g.rollouts if (g.problem.id, r.sample) not in skip] for g in whole]
    assert [len(g.rollouts) for g in rest] == [2, 0, 3, 2]
    assert [[(r.sample, r.completion_ids) for r in g.rollouts] for g in rest] == [
        [(r.sample, r.completion_ids) for r in rollouts] for rollouts in expected
    ]
    seen = []
    nothing = engine.generate(
        prompts, **settings, keep=False, on_finished=lambda prompt, rollout: seen.append(rollout)
    )
    assert [g.rollouts for g in nothing] == [[]] * 4 and len(seen) == 12
    assert engine.stats.completion_tokens == drawn == sum(len(r.completion_ids) for r in seen)


def test_no_prompts_give_no_groups(tokenizer):
    engine = NativeEngine(model_of("qwen2"), tokenizer)
    assert sample(engine, []) == []
    assert engine.stats.completion_tokens == 0


def half_training(model):
    """A mode that is neither all training nor all eval."""
    model.train()
    model.model.layers[0].eval()
    return {name: module.training for name, module in model.named_modules()}


def test_module_modes_and_gradients_come_back(tokenizer):
    model = model_of("qwen2", attention_dropout=0.5)
    modes = half_training(model)
    engine = NativeEngine(model, tokenizer)
    prompts = make_prompts([4, 6])
    sampled = ids_by_problem(sample(engine, prompts))
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.is_grad_enabled()
    # sampled without the dropout of training mode
    assert sampled == ids_by_problem(sample(NativeEngine(model.eval(), tokenizer), prompts))


def test_modes_come_back_when_a_callback_raises(tokenizer):
    model = model_of("qwen2")
    modes = half_training(model)

    def fail(prompt, rollout):
        raise RuntimeError("from the callback")

    with pytest.raises(RuntimeError, match="from the callback"):
        NativeEngine(model, tokenizer).generate(
            make_prompts([3]), group_size=2, params=SamplingParams(4), seed=0, on_finished=fail
        )
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert torch.is_grad_enabled()


def test_gradient_checkpointing_of_training_does_not_touch_the_cache(tokenizer):
    model = model_of("llama")
    prompts = make_prompts([4, 6])
    expected = ids_by_problem(sample(NativeEngine(model, tokenizer), prompts))
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    model.train()
    assert ids_by_problem(sample(NativeEngine(model, tokenizer), prompts)) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_stop_the_run(value, tokenizer):
    model = model_of("qwen2")
    with torch.no_grad():
        model.lm_head.weight[3, 2] = value
    modes = half_training(model)
    with pytest.raises(GuardStop, match=r"step 6.*not finite.*checkpoint"):
        sample(NativeEngine(model, tokenizer), make_prompts([3, 4]), step=6)
    assert {name: module.training for name, module in model.named_modules()} == modes


def test_one_bad_row_in_one_late_step_stops_the_run(tokenizer):
    model = model_of("qwen2")
    engine = NativeEngine(model, tokenizer, eos_token_ids=[])
    prompts = make_prompts([3, 4, 5])
    written = ids_by_problem(sample(engine, prompts, cap=20, temperature=0.0))
    others = {token for prompt in prompts for token in prompt.prompt_ids}
    others.update(written["p0"][0] + written["p2"][0])
    first = {token: k for k, token in reversed(list(enumerate(written["p1"][0])))}
    poison, place = max(
        ((t, k) for t, k in first.items() if t not in others), key=lambda pair: pair[1]
    )
    assert place > 3
    with torch.no_grad():  # the row that writes this token breaks when the token is fed
        model.get_input_embeddings().weight[poison] = float("nan")
    same = sample(engine, prompts, cap=place + 1, temperature=0.0)
    assert ids_by_problem(same) == {name: [ids[0][: place + 1]] for name, ids in written.items()}
    with pytest.raises(GuardStop, match="not finite"):
        sample(engine, prompts, cap=place + 2, temperature=0.0)


def test_gradients_are_not_recorded_and_later_training_works(tokenizer):
    model = model_of("qwen2")
    sample(NativeEngine(model, tokenizer), make_prompts([4]))
    loss = model(input_ids=torch.tensor([[1, 2, 3]])).logits.sum()
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
