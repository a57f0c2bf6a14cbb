"""Log-probs in chunks against a plain log_softmax over all logits."""

import math
import weakref
from contextlib import nullcontext

import pytest
import torch
from tiny_models import MIXED, VOCAB, build_model
from torch import nn

from open_rs.errors import InputError
from open_rs.models import add_lora
from open_rs.recipe import LoraRecipe
from open_rs.train.logprobs import (
    LOGIT_BYTES,
    Picked,
    check_lm_head,
    chunks,
    completion_logprobs,
    head_logits,
    learn_logprobs,
    unwrap,
)
from open_rs.train.packed import can_pack

KINDS = {
    "qwen2": {},
    "llama": {},
    "gemma2": {"final_logit_softcapping": 3.0},  # bites: logits reach well beyond 3
    "cohere": {"logit_scale": 0.25},
    "granite": {"logits_scaling": 4.0},
}


# Cohere's norm and Gemma's attention work in float32 even in a float64 model, here on other shapes
ROUNDING = {"cohere": 1e-6, "gemma2": 1e-6}


def model_of(kind, **changes):
    return build_model(kind, **{**KINDS[kind], **changes}).double()


def ragged_batch(seed=0, vocabulary=VOCAB):
    """(ids, attention mask, completion mask) [4, 19] of rows (prompt, completion) on the left."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.tensor([[3, 16], [5, 1], [1, 9], [8, 4]])
    ids = torch.randint(0, vocabulary, (4, 19), generator=generator)
    place = torch.arange(19)
    inside = place < sizes.sum(1, keepdim=True)
    return ids, inside.long(), inside & (place >= sizes[:, :1])


def plain_logprobs(model, batch, temperature):
    """[4, 16]: every row by itself, unpadded, all logits at once."""
    ids, inside, completion = batch
    found = torch.zeros(4, 16, dtype=torch.float64)
    for row in range(4):
        length, size = int(inside[row].sum()), int(completion[row].sum())
        logits = model(input_ids=ids[row : row + 1, :length]).logits[0].double()
        every = (logits / temperature).log_softmax(-1)  # [length, V]
        for t in range(size):
            position = length - size + t
            found[row, t] = every[position - 1, ids[row, position]]
    return found


@pytest.mark.parametrize("chunk_tokens", [1, 7, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_plain_log_softmax_with_gradients(kind, chunk_tokens):
    model, batch = model_of(kind), ragged_batch()
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    expected = plain_logprobs(model, batch, 0.7)
    (expected * weight).sum().backward()
    expected_gradient = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    ours, entropy = completion_logprobs(model, *batch, temperature=0.7, chunk_tokens=chunk_tokens)
    (ours * weight).sum().backward()

    assert entropy is None
    assert ours.dtype == torch.float64
    tolerance = ROUNDING.get(kind, 1e-10)
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)
    for parameter, gradient in zip(model.parameters(), expected_gradient, strict=True):
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=10 * tolerance, atol=10 * tolerance
        )


def test_the_soft_cap_of_the_test_above_bites():
    logits = model_of("gemma2", final_logit_softcapping=None)(ragged_batch()[0]).logits
    assert logits.abs().max() > 3


def test_a_float32_model_gives_float32_within_its_rounding():
    batch = ragged_batch()
    single = build_model("qwen2")
    ours, _ = completion_logprobs(single, *batch, temperature=1.0)
    assert ours.dtype == torch.float32
    exact = plain_logprobs(model_of("qwen2"), batch, 1.0)
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-4)


def test_a_bfloat16_model_gives_float32_log_probs_of_its_own_logits():
    batch = ragged_batch()
    model = build_model("qwen2").bfloat16()
    ours, _ = completion_logprobs(model, *batch, temperature=1.0)
    assert ours.dtype == torch.float32
    exact = plain_logprobs(model, batch, 1.0)
    assert (ours.double() - exact).abs().max() < 0.15  # bfloat16: 3 digits of logits up to 10


def test_places_after_a_completion_are_exactly_zero():
    ours, entropy = completion_logprobs(
        model_of("llama"), *ragged_batch(), temperature=1.0, with_entropy=True
    )
    empty = torch.arange(16) >= torch.tensor([[16], [1], [9], [4]])
    for values in (ours, entropy):
        assert values.shape == (4, 16)
        assert (values[empty] == 0).all() and (values[~empty] != 0).all()


@pytest.mark.parametrize("kind", ["qwen2", "gemma2", "gemma3_text"])
def test_what_the_padding_holds_changes_nothing(kind):
    model = build_model(kind, **MIXED, use_sliding_window=True)  # a window shorter than the padding
    ids, inside, completion = ragged_batch()
    other = ids.where(inside.bool(), 11)
    longer = [nn.functional.pad(tensor, (0, 6)) for tensor in (ids, inside, completion)]
    first, _ = completion_logprobs(model, ids, inside, completion, temperature=1.0)
    second, _ = completion_logprobs(model, other, inside, completion, temperature=1.0)
    third, _ = completion_logprobs(model, *longer, temperature=1.0)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, third, rtol=0, atol=1e-4)


def grouped_batch():
    """Rows of two prompts of 9 and 6 tokens, 3 and 2 completions: (ids, mask, completion mask)."""
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(0, VOCAB, (size,), generator=generator) for size in (9, 6)]
    rows = [
        (prompts[which], torch.randint(0, VOCAB, (size,), generator=generator))
        for which, size in ((0, 7), (1, 1), (0, 2), (1, 8), (0, 5))
    ]
    sizes = torch.tensor([[len(prompt), len(completion)] for prompt, completion in rows])
    ids = nn.utils.rnn.pad_sequence([torch.cat(row) for row in rows], batch_first=True)
    place = torch.arange(ids.shape[1])
    inside = place < sizes.sum(1, keepdim=True)
    return ids, inside.long(), inside & (place >= sizes[:, :1])


def tokens_fed(model):
    """A list that gets the shape of every input of the decoder."""
    can_pack(unwrap(model))  # its trial is over
    fed = []
    embed = unwrap(model).get_input_embeddings()
    embed.register_forward_hook(lambda module, args, out: fed.append(tuple(args[0].shape)))
    return fed


def one_by_one(model, batch):
    """Log-probs [5, 8] of the rows of `grouped_batch` in batches of one row: nothing is shared."""
    found = torch.zeros(5, 8, dtype=torch.float64)
    for row in range(5):
        alone, _ = completion_logprobs(model, *(t[row : row + 1] for t in batch), temperature=0.7)
        found[row, : alone.shape[1]] = alone[0]
    return found


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("kind", ["qwen2", "llama", "cohere", "granite"])
def test_tokens_are_forwarded_once_and_padding_never(kind, adapted):
    model, batch = model_of(kind), grouped_batch()
    if adapted:
        model = add_lora(model, LoraRecipe(rank=2)).double()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weight = torch.randn(5, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = one_by_one(model, batch)
    (expected * weight).sum().backward()
    gradients = [parameter.grad.clone() for parameter in trained]
    model.zero_grad()

    fed = tokens_fed(model)
    ours, _ = completion_logprobs(model, *batch, temperature=0.7)
    (ours * weight).sum().backward()

    # heads of 9 - 1 and 6 - 1 tokens once each, then 7 + 1 + 2 + 8 + 5 of the rows
    assert fed == [(1, 8 + 5 + 23)]
    tolerance = ROUNDING.get(kind, 1e-10)
    torch.testing.assert_close(ours, expected, rtol=0, atol=tolerance)
    for parameter, gradient in zip(trained, gradients, strict=True):
        # norms work in float32 whatever the model, and here on sums over the rows of a prompt
        assert (parameter.grad - gradient).norm() <= 1e-6 * gradient.norm()


def test_models_that_cannot_be_packed_forward_whole_rows():
    model = build_model("gemma2", **MIXED)  # windows
    fed = tokens_fed(model)
    completion_logprobs(model, *grouped_batch(), temperature=0.7)
    assert fed == [(5, 16)]


class BigramModel(nn.Module):
    """The next token's probabilities depend on the current token alone, as a table [V, V] says."""

    def __init__(self, probabilities):
        super().__init__()
        logits = torch.tensor(probabilities, dtype=torch.float64).log().clamp(min=-1e4)
        self.table = nn.Embedding.from_pretrained(logits)
        self.head = nn.Linear(len(logits), len(logits), bias=False).double()
        self.head.weight.data = torch.eye(len(logits)).double()
        self.config = type("Config", (), {"get_text_config": lambda self: self})()
        self.base_model = self

    def get_output_embeddings(self):
        return self.head

    def forward(self, input_ids, attention_mask, use_cache):
        return type("Output", (), {"last_hidden_state": self.table(input_ids)})()


def test_log_probs_temperature_and_entropy_by_hand():
    # after token 0 the probabilities are 1/2, 1/4, 1/4; after 1 they are 1/10, 1/10, 8/10
    model = BigramModel([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [1, 1, 1]])
    ids = torch.tensor([[0, 1, 2]])
    inside = torch.ones(1, 3, dtype=torch.long)
    completion = torch.tensor([[False, True, True]])
    logprobs, entropy = completion_logprobs(
        model, ids, inside, completion, temperature=1.0, with_entropy=True
    )
    assert logprobs.tolist() == [pytest.approx([math.log(0.25), math.log(0.8)])]
    # 1/2 log 2 + 2 x 1/4 log 4 = 1.5 log 2; 2 x 0.1 log 10 - 0.8 log 0.8
    by_hand = [1.5 * math.log(2), 0.2 * math.log(10) - 0.8 * math.log(0.8)]
    assert entropy.tolist() == [pytest.approx(by_hand)]

    # temperature 1/2 squares: 1/4, 1/16, 1/16 -> 2/3, 1/6, 1/6; 1, 1, 64 of 66
    logprobs, entropy = completion_logprobs(
        model, ids, inside, completion, temperature=0.5, with_entropy=True
    )
    assert logprobs.tolist() == [pytest.approx([math.log(1 / 6), math.log(64 / 66)])]
    by_hand = [
        2 / 3 * math.log(1.5) + 1 / 3 * math.log(6),
        2 / 66 * math.log(66) + 64 / 66 * math.log(66 / 64),
    ]
    assert entropy.tolist() == [pytest.approx(by_hand)]


def test_entropy_of_a_token_that_cannot_occur_is_finite():
    model = BigramModel([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [1, 1, 1]])
    _, entropy = completion_logprobs(
        model,
        torch.tensor([[0, 1]]),
        torch.ones(1, 2, dtype=torch.long),
        torch.tensor([[False, True]]),
        temperature=1.0,
        with_entropy=True,
    )
    assert entropy.item() == pytest.approx(math.log(2))


def test_no_gradient_flows_through_the_entropy():
    model = model_of("qwen2")
    _, entropy = completion_logprobs(model, *ragged_batch(), temperature=1.0, with_entropy=True)
    assert not entropy.requires_grad


@pytest.mark.parametrize("with_entropy", [False, True])
def test_the_head_never_sees_more_than_a_chunk_and_no_logits_are_kept(with_entropy):
    model, (ids, inside, completion) = model_of("qwen2"), ragged_batch()
    rows, saved = [], []
    model.lm_head.register_forward_hook(lambda module, args, out: rows.append(out.shape[:-1]))

    def note(tensor):
        saved.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logprobs, _ = completion_logprobs(
            model,
            ids,
            inside,
            completion,
            temperature=1.0,
            chunk_tokens=7,
            with_entropy=with_entropy,
        )
        # 16 + 1 + 9 + 4 = 30 completion tokens in chunks of 7, none for prompts or padding
        assert rows == [(7,), (7,), (7,), (7,), (2,)]
        logits = [shape for shape in saved if VOCAB in shape and shape[-1] != 32]
        assert logits == []  # [H, V] weights aside, nothing with a vocabulary is kept for backward
    logprobs.sum().backward()
    assert sorted(map(tuple, rows[5:])) == [(2,), (7,), (7,), (7,), (7,)]  # recomputed in backward


# --- learn_logprobs, and the function under both ---


@pytest.mark.parametrize("chunk_tokens", [1, 7, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_learning_chunk_by_chunk_is_a_backward_pass_over_all(kind, chunk_tokens):
    batch = ragged_batch()
    weight = torch.randn(30, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    whole, model = model_of(kind), model_of(kind)
    expected, entropy = completion_logprobs(whole, *batch, temperature=0.7, with_entropy=True)
    filled = torch.arange(16) < torch.tensor([[16], [1], [9], [4]])
    (expected[filled].square() * weight).sum().backward()
    parts = []

    def token_loss(logprobs, entropies, part):
        parts.append((part.start, part.stop))
        assert not entropies.requires_grad
        return (logprobs.square() * weight[part]).sum()

    ours, measured = learn_logprobs(
        model, *batch, token_loss, temperature=0.7, chunk_tokens=chunk_tokens,
        autocast=nullcontext(),
    )  # fmt: skip
    assert parts == [(at, min(at + chunk_tokens, 30)) for at in range(0, 30, chunk_tokens)]
    assert not ours.requires_grad
    torch.testing.assert_close(ours, expected.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(measured, entropy, rtol=0, atol=1e-12)
    tolerance = ROUNDING.get(kind, 1e-10)
    for left, right in zip(model.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=tolerance, atol=tolerance)


def test_a_head_that_is_trained_alone_learns():
    model = model_of("qwen2")
    model.model.requires_grad_(False)
    learn_logprobs(
        model, *ragged_batch(), lambda logprobs, *_: logprobs.sum(), temperature=1.0,
        autocast=nullcontext(),
    )  # fmt: skip
    trained = {name for name, one in model.named_parameters() if one.grad is not None}
    assert trained == {"lm_head.weight"}


def test_while_learning_there_are_the_logits_of_one_chunk_and_no_chunk_is_made_twice():
    model, made = model_of("qwen2"), []
    model.lm_head.register_forward_hook(lambda module, args, out: made.append(weakref.ref(out)))
    alive = []

    def token_loss(logprobs, entropies, part):
        alive.append((len(made), sum(one() is not None for one in made)))
        return logprobs.sum()

    learn_logprobs(
        model, *ragged_batch(), token_loss, temperature=1.0, chunk_tokens=7, autocast=nullcontext()
    )
    # 30 tokens are five chunks; at each the logits of those before are gone
    assert len(made) == len(alive) == 5
    assert all(left <= 1 for _, left in alive)


def test_picked_log_probs_and_their_gradient_against_autograd():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(150, 11, generator=generator, dtype=torch.float64)  # over NEAR rows
    targets = torch.randint(0, 11, (150,), generator=generator)
    weight = torch.randn(150, generator=generator, dtype=torch.float64)
    plain = logits.clone().requires_grad_()
    every = (plain / 0.6).log_softmax(1)
    expected = every.gather(1, targets[:, None]).squeeze(1)
    (expected * weight).sum().backward()
    for with_entropy in (False, True):
        leaf = logits.clone().requires_grad_()
        got, entropy = Picked.apply(leaf * 1, targets, 0.6, with_entropy)
        (got * weight).sum().backward()
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
        torch.testing.assert_close(leaf.grad, plain.grad, rtol=0, atol=1e-13)
        exact = -(every.exp() * every).sum(1) if with_entropy else torch.zeros(150).double()
        torch.testing.assert_close(entropy, exact.detach(), rtol=0, atol=1e-13)


def test_a_token_that_is_ruled_out_leaves_the_entropy_and_the_gradient_finite():
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    got, entropy = Picked.apply(logits * 1, torch.tensor([1]), 1.0, True)
    got.sum().backward()
    assert got.item() == entropy.neg().item() == pytest.approx(-math.log(2))
    assert logits.grad.tolist() == [[-0.5, 0.5, 0.0]]


def test_logits_that_their_producer_still_needs_are_not_overwritten_in_silence():
    source = torch.randn(3, 5, requires_grad=True)
    logits = source.exp()  # its backward pass reads its output
    got, _ = Picked.apply(logits, torch.tensor([0, 1, 2]), 1.0, False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        got.sum().backward()


def test_a_chunk_holds_so_many_bytes_of_logits_whatever_the_vocabulary():
    model = model_of("qwen2")
    (only,) = chunks(model, 5000, None)
    assert only == slice(0, 5000)  # 5,000 x 256 logits are 5 MB
    model.lm_head = nn.Linear(1, 152_000, bias=False)
    parts = chunks(model, 1000, None)
    assert all((one.stop - one.start) * 152_000 * 4 <= LOGIT_BYTES for one in parts)
    assert [one.stop - one.start for one in parts] == [441, 441, 118]  # 441.5 rows fit


def test_a_lora_model_equals_its_merged_self_and_trains_the_adapters_alone():
    batch = ragged_batch()
    model = add_lora(build_model("qwen2"), LoraRecipe(rank=4, alpha=8)).double()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.3 * torch.randn(
                parameter.shape, generator=generator, dtype=torch.float64
            )
    ours, _ = completion_logprobs(model, *batch, temperature=0.7, chunk_tokens=7)
    ours.sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if "lora_" in name}
    with model.disable_adapter():
        base, _ = completion_logprobs(model, *batch, temperature=0.7)
    plain = plain_logprobs(model_of("qwen2"), batch, 0.7)
    torch.testing.assert_close(base, plain, rtol=0, atol=1e-10)
    merged = model.merge_and_unload()
    expected = plain_logprobs(merged, batch, 0.7)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-10)
    assert (ours - base).abs().max() > 0.1  # the adapters do something here


@pytest.mark.parametrize("make", [ragged_batch, grouped_batch])
def test_gradient_checkpointing_changes_nothing(make):
    batch = make()
    plain, checkpointed = model_of("llama").train(), model_of("llama").train()
    checkpointed.gradient_checkpointing_enable({"use_reentrant": False})
    fed = tokens_fed(checkpointed)
    values = []
    for model in (plain, checkpointed):
        logprobs, _ = completion_logprobs(model, *batch, temperature=1.0)
        logprobs.sum().backward()
        values.append((logprobs, [p.grad for p in model.parameters()]))
    assert len(fed) == 1 and fed[0][0] == 1  # packed, too
    assert torch.equal(values[0][0], values[1][0])
    for left, right in zip(values[0][1], values[1][1], strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


def test_refuses_temperature_0_and_a_completion_without_a_prompt():
    model, (ids, inside, completion) = model_of("qwen2"), ragged_batch()
    with pytest.raises(ValueError, match="temperature is 0"):
        completion_logprobs(model, ids, inside, completion, temperature=0)
    with pytest.raises(ValueError, match="position 0"):
        completion_logprobs(model, ids, inside, inside.bool(), temperature=1.0)


# --- check_lm_head ---


@pytest.mark.parametrize("kind", KINDS)
def test_check_lm_head_accepts_known_heads_and_restores_the_mode(kind):
    for training in (True, False):
        model = build_model(kind, **KINDS[kind]).train(training)
        check_lm_head(model)
        assert model.training is training
    check_lm_head(build_model(kind, **KINDS[kind]).bfloat16())


def test_check_lm_head_accepts_a_lora_model():
    check_lm_head(add_lora(build_model("qwen2"), LoraRecipe(rank=4)))


@pytest.mark.parametrize("distort", [lambda x: x * 1.01, lambda x: x.clamp(max=2), torch.tanh])
def test_check_lm_head_finds_a_head_that_it_does_not_know(distort):
    model = build_model("qwen2")
    plain = model.forward

    def forward(*args, **kwargs):
        output = plain(*args, **kwargs)
        output.logits = distort(output.logits)
        return output

    model.forward = forward
    with pytest.raises(InputError, match=r"Qwen2ForCausalLM .* does not know"):
        check_lm_head(model)


def test_check_lm_head_finds_a_soft_cap_that_is_left_out(monkeypatch):
    model = build_model("gemma2", **KINDS["gemma2"])
    check_lm_head(model)
    monkeypatch.setattr(
        "open_rs.train.logprobs.head_logits", lambda lm, hidden: lm.get_output_embeddings()(hidden)
    )
    with pytest.raises(InputError, match="Gemma2ForCausalLM"):
        check_lm_head(model)


def test_check_lm_head_finds_nan():
    model = build_model("qwen2")
    model.lm_head.weight.data[3] = math.nan
    with pytest.raises(InputError, match="differ by nan"):
        check_lm_head(model)


def test_check_lm_head_refuses_a_model_without_a_head_or_a_body():
    class Bodiless(nn.Module):
        def __init__(self):
            super().__init__()
            self.base_model = self

        def get_output_embeddings(self):
            return nn.Linear(1, 1)

    with pytest.raises(InputError, match="no LM head"):
        check_lm_head(build_model("qwen2").model)
    with pytest.raises(InputError, match="no separate decoder body"):
        check_lm_head(Bodiless())


def test_head_logits_are_the_models_own():
    for kind in KINDS:
        model = model_of(kind)
        ids = ragged_batch()[0][:1]
        hidden = model.base_model(input_ids=ids).last_hidden_state[0]
        torch.testing.assert_close(
            head_logits(model, hidden), model(input_ids=ids).logits[0], rtol=0, atol=1e-10
        )
