"""The stream of a micro-batch: where tokens stand, and attention over it against a row's alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import build_model
from torch.nn.functional import scaled_dot_product_attention

from open_rs.train import packed
from open_rs.train.packed import BlockAttention, attend, can_pack, pack


def batch_of(rows):
    """(ids [B, S], predicts [B, S - 1]) of rows (prompt, completion)."""
    sizes = torch.tensor([[len(prompt), len(completion)] for prompt, completion in rows])
    ids = torch.zeros(len(rows), int(sizes.sum(1).max()), dtype=torch.long)
    for row, (prompt, completion) in enumerate(rows):
        ids[row, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
    place = torch.arange(ids.shape[1])
    completion_mask = (place >= sizes[:, :1]) & (place < sizes.sum(1, keepdim=True))
    return ids, completion_mask[:, 1:]


def test_the_stream_by_hand():
    rows = [([1, 2, 3], [10, 11]), ([5, 6], [20, 21, 22]), ([1, 2, 3], [30])]
    packing = pack(*batch_of(rows), torch.float32)
    # heads 1 2 and 5, then the tails, longest first: 6 20 21, 3 10, 3
    assert packing.ids.tolist() == [[1, 2, 5, 6, 20, 21, 3, 10, 3]]
    assert packing.positions.tolist() == [[0, 1, 0, 1, 2, 3, 2, 3, 2]]
    assert packing.states.tolist() == [6, 7, 3, 4, 5, 8]  # row by row


def test_prompts_of_one_token_have_no_head():
    packing = pack(*batch_of([([7], [1, 2]), ([8], [3])]), torch.float32)
    assert packing.ids.tolist() == [[7, 1, 8]]
    assert all(block.mask is None for block in packing.blocks)  # nothing comes before them


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(tokens, tokens), min_size=1, max_size=7), st.sampled_from([4, 10**6]))
def test_every_token_attends_to_what_stands_before_it_in_its_row(rows, block_keys):
    ids, predicts = batch_of(rows)
    plain = packed.BLOCK_KEYS
    packed.BLOCK_KEYS = block_keys
    try:
        packing = pack(ids, predicts, torch.float64)
    finally:
        packed.BLOCK_KEYS = plain
    heads = {tuple(prompt[:-1]) for prompt, _ in rows}
    assert packing.ids.shape[1] == sum(map(len, heads)) + sum(len(one) for _, one in rows)
    assert [(one.first, one.last) for one in packing.blocks] == list(
        zip(
            [0, *(one.last for one in packing.blocks[:-1])],
            [one.last for one in packing.blocks],
            strict=True,
        )
    )
    # queries, keys and values that are functions of (token, position), so of the row alone
    table = torch.randn(3, 4, 20, 2, 4, generator=torch.Generator().manual_seed(0)).double()
    stream = [one[packing.ids[0], packing.positions[0]] for one in table]  # [N, heads, size]
    key, value = stream[1][:, :1], stream[2][:, :1]  # two heads of queries share one of keys
    found = torch.cat([attend(stream[0], key, value, one, 0.5, 0.0) for one in packing.blocks])
    expected = []
    for prompt, completion in rows:
        row = torch.tensor([*prompt, *completion])[:-1]
        q, k, v = (one[row, torch.arange(len(row))].transpose(0, 1)[None] for one in table)
        k, v = k[:, :1], v[:, :1]
        whole = scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.5, enable_gqa=True)
        expected.append(whole[0].transpose(0, 1)[len(prompt) - 1 :])
    torch.testing.assert_close(found[packing.states], torch.cat(expected), rtol=0, atol=1e-12)


def test_the_kernels_called_by_name_do_what_autograd_does_with_sdpa():
    rows = [
        ([1, 2, 3], [4] * 9),
        ([1, 2, 3], [5] * 8),
        ([6, 7], [8]),
        ([6, 7], [9] * 7),
        ([1], [2]),
    ]
    packing = pack(*batch_of(rows), torch.float64)
    assert len(packing.blocks) >= 4 and any(one.mask is None for one in packing.blocks)
    generator = torch.Generator().manual_seed(0)
    count = packing.ids.shape[1]
    made = [
        torch.randn(count, heads, 4, generator=generator, dtype=torch.float64)
        for heads in (6, 2, 2)  # three heads of queries for each of keys
    ]
    upstream = torch.randn(count, 6, 4, generator=generator, dtype=torch.float64)
    ours = [one.clone().requires_grad_() for one in made]
    theirs = [one.clone().requires_grad_() for one in made]
    found = BlockAttention.apply(*ours, packing.blocks, 0.4)
    expected = torch.cat([attend(*theirs, block, 0.4, 0.0) for block in packing.blocks])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    found.backward(upstream)
    expected.backward(upstream)
    for left, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(left.grad, right.grad, rtol=0, atol=1e-12)


def test_rows_of_like_length_share_a_block_and_others_do_not():
    rows = [([1, 2], [3] * size) for size in (100, 80, 76, 74, 20)]
    packing = pack(*batch_of(rows), torch.float32)
    # the head; then 100, 80 and 76; 74 is below 0.75 x 100; 20 is below 0.75 x 74
    assert [one.shape for one in packing.blocks] == [(1, 1), (3, 100), (1, 74), (1, 20)]


def test_what_is_kept_for_the_backward_pass_does_not_grow_with_the_rows_of_a_prompt():
    def kept(rows):
        saved = {}

        def note(tensor):
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model = build_model("llama")
        model.train()
        ids, predicts = batch_of(rows)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            states = packed.packed_states(model, ids, predicts)
        weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
        held = sum(size for place, size in saved.items() if place not in weights)
        return held / len(states)

    # 240 completion tokens behind one prompt of 120: as 2 rows and as 24
    prompt = list(range(120))
    few, many = kept([(prompt, [1] * 120)] * 2), kept([(prompt, [1] * 10)] * 24)
    # masks apart, the same; laid out for every row, keys and values of 24 prompts would be 8 times
    # as much again
    assert many < 1.1 * few


@pytest.mark.parametrize(
    ("kind", "changes", "expected"),
    [
        ("qwen2", {}, True),
        ("llama", {}, True),
        ("qwen3", {}, True),
        ("gpt2", {}, True),
        ("gemma2", {}, False),  # caps scores, has windows
        ("mistral", {"sliding_window": 8}, False),
        ("nemotron", {}, False),  # hands nothing through to its attention
        ("bloom", {}, False),  # adds to the scores by distance
    ],
)
def test_which_models_can_be_packed(kind, changes, expected):
    model = build_model(kind, **changes).train()
    assert can_pack(model) is expected
    assert model.training


def test_a_model_that_mixes_tokens_elsewhere_is_found_by_trial(monkeypatch):
    model = build_model("qwen2")
    norm = model.model.norm
    plain = norm.forward
    monkeypatch.setattr(norm, "forward", lambda states: plain(states.cumsum(1)))
    assert not can_pack(model)


def test_eager_attention_is_left_alone():
    model = build_model("qwen2")
    model.config._attn_implementation = "eager"
    assert not can_pack(model)
