"""Micro-batches: every row once, within the budget, each token in its place."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from open_rs.train.batches import Row, Span, by_length, by_prompt, make_batches, pad_right

LIMITS = {"loss_norm": "token", "max_completion_tokens": 50}


def row_of(prompt, completion, advantage=1.0, first=100):
    """A row whose token ids and log-probs tell where they came from."""
    return Row(
        prompt_ids=list(range(first, first + prompt)),
        completion_ids=list(range(first + 50, first + 50 + completion)),
        engine_logprobs=[-(first + t) / 1024 for t in range(completion)],  # exact in float32
        advantage=advantage,
    )


sizes = st.lists(
    st.tuples(st.integers(1, 20), st.integers(0, 30), st.sampled_from([0.0, 1.5, -0.5])),
    max_size=25,
)


@given(sizes=sizes, budget=st.integers(1, 200), kl_coef=st.sampled_from([0.0, 0.1]))
@settings(max_examples=150, deadline=None)
def test_every_row_that_teaches_is_in_exactly_one_batch_within_the_budget(sizes, budget, kl_coef):
    rows = [row_of(p, c, a, first=100 * i) for i, (p, c, a) in enumerate(sizes)]
    batches = make_batches(rows, micro_batch_tokens=budget, kl_coef=kl_coef, **LIMITS)

    teaches = [i for i, (_, c, a) in enumerate(sizes) if c and (a or kl_coef)]
    placed = [place for batch in batches for place in batch.rows]
    assert sorted(placed) == teaches
    lengths = [rows[place].length for place in placed]
    assert all(left >= right for left, right in pairwise(lengths))
    for left, right in pairwise(placed):  # equal lengths keep their order
        assert rows[left].length > rows[right].length or left < right
    for batch in batches:
        count, longest = batch.input_ids.shape
        assert longest == max(rows[place].length for place in batch.rows)
        assert count * longest <= budget or count == 1
    for left, right in pairwise(batches):  # no batch ends while its next row would still fit
        longest = left.input_ids.shape[1]
        assert (len(left.rows) + 1) * longest > budget or not right.rows


@given(sizes=sizes, budget=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_tokens_masks_and_log_probs_are_in_their_places(sizes, budget):
    rows = [row_of(p, c, a, first=100 * i) for i, (p, c, a) in enumerate(sizes)]
    for batch in make_batches(rows, micro_batch_tokens=budget, kl_coef=1, pad_id=-7, **LIMITS):
        width, longest = batch.input_ids.shape[1], batch.old_logprobs.shape[1]
        assert longest == max(len(rows[place].completion_ids) for place in batch.rows)
        for b, place in enumerate(batch.rows):
            row = rows[place]
            p, c = len(row.prompt_ids), len(row.completion_ids)
            rest = width - p - c
            ids = [*row.prompt_ids, *row.completion_ids, *[-7] * rest]
            assert batch.input_ids[b].tolist() == ids
            assert batch.attention_mask[b].tolist() == [1] * (p + c) + [0] * rest
            expected = [False] * p + [True] * c + [False] * rest
            assert batch.completion_mask[b].tolist() == expected
            assert batch.loss_mask[b].tolist() == [True] * c + [False] * (longest - c)
            old = [*row.engine_logprobs, *[0.0] * (longest - c)]
            assert batch.old_logprobs[b].tolist() == old
            assert batch.advantages[b].item() == row.advantage
        assert batch.ref_logprobs is None


def test_batches_of_like_length_by_hand():
    rows = [Span(None, 0, length - 1) for length in (5, 9, 2, 9, 4)]
    # budget 18: 9 9 | 5 4 2 (3 x 5 = 15)
    assert list(by_length(range(5), rows, 18)) == [[1, 3], [0, 4, 2]]
    # budget 17: the second 9 no longer fits beside the first, 2 x 9 = 18; 5 does not either
    assert list(by_length(range(5), rows, 17)) == [[1], [3], [0, 4, 2]]
    # budget 3: nothing but the row of 2 fits, and each still gets a batch
    assert list(by_length(range(5), rows, 3)) == [[1], [3], [0], [4], [2]]
    assert list(by_length([], rows, 3)) == []


def test_batches_of_whole_prompts_by_hand():
    # prompt A of 4 tokens with completions 2, 5, 1; prompt B of 3 with 7 and 1
    rows = [Span(*one) for one in (("A", 3, 2), ("B", 2, 7), ("A", 3, 5), ("B", 2, 1), ("A", 3, 1))]
    # B holds the longest row: 2 + 7 + 1 = 10, then A: 3 + 5 + 2 + 1 = 11
    assert list(by_prompt(range(5), rows, 21)) == [[1, 3, 2, 0, 4]]
    # 20 hold each of them whole, and not both
    assert list(by_prompt(range(5), rows, 20)) == [[1, 3], [2, 0, 4]]
    # 10 do not hold A, whose prompt then counts in each batch: 3 + 5 + 2, 3 + 1
    assert list(by_prompt(range(5), rows, 10)) == [[1, 3], [2, 0], [4]]
    assert list(by_prompt(range(5), rows, 1)) == [[1], [3], [2], [0], [4]]


@given(sizes=sizes, budget=st.integers(1, 200))
@settings(max_examples=100, deadline=None)
def test_a_batch_counts_the_tokens_that_go_through_the_model(sizes, budget):
    rows = [row_of(p, c, a, first=100 * (i // 3)) for i, (p, c, a) in enumerate(sizes)]
    teaches = [i for i, (_, c, a) in enumerate(sizes) if c and a]
    for packed in (False, True):
        batches = make_batches(rows, micro_batch_tokens=budget, packed=packed, **LIMITS)
        assert sorted(place for batch in batches for place in batch.rows) == teaches
        for batch in batches:
            mine = [rows[place] for place in batch.rows]
            heads = {tuple(row.prompt_ids[:-1]) for row in mine}
            stream = sum(map(len, heads)) + sum(len(row.completion_ids) for row in mine)
            assert batch.tokens == (stream if packed else batch.input_ids.numel())
            assert batch.tokens <= budget or len(mine) == 1
            for half in batch.halves() if len(mine) > 1 else []:
                assert half.packed is packed and half.tokens < batch.tokens
        assert max((rows[i].length for i in teaches), default=0) == max(
            (rows[batches[0].rows[0]].length if batches else 0), 0
        )  # the longest comes first


@pytest.mark.parametrize(
    ("norm", "expected"),
    # completions 2, 3, 5 and an empty one: 3 rows count, those without advantage included
    [("sequence", [6, 9, 15]), ("token", [10] * 3), ("constant", [150] * 3)],
)
def test_denominators_are_those_of_the_whole_step_whatever_is_skipped(norm, expected):
    rows = [row_of(1, 2), row_of(1, 3, advantage=0.0), row_of(1, 5), row_of(1, 0)]
    for budget in (1, 1000):
        batches = make_batches(
            rows, micro_batch_tokens=budget, loss_norm=norm, max_completion_tokens=50
        )
        got = {
            place: value.item()
            for batch in batches
            for place, value in zip(batch.rows, batch.denominators, strict=True)
        }
        assert got == {0: expected[0], 2: expected[2]}


def test_dtypes_and_moving_to_a_device():
    (batch,) = make_batches([row_of(2, 3)], micro_batch_tokens=100, **LIMITS)
    moved = batch.to("meta")
    for one in (batch, moved):
        assert one.input_ids.dtype == one.attention_mask.dtype == torch.long
        assert one.completion_mask.dtype == one.loss_mask.dtype == torch.bool
        assert one.old_logprobs.dtype == one.advantages.dtype == torch.float32
    assert moved.rows == batch.rows and moved.ref_logprobs is None
    assert moved.input_ids.device.type == moved.denominators.device.type == "meta"
    assert batch.input_ids.device.type == "cpu"


def test_no_rows_make_no_batches():
    assert make_batches([], micro_batch_tokens=10, **LIMITS) == []
    assert make_batches([row_of(3, 2, advantage=0.0)], micro_batch_tokens=10, **LIMITS) == []


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row([], [1], [-1.0], 1.0), "row 1 has no prompt"),
        (Row([1], [1, 2], [-1.0], 1.0), "row 1: 1 log-probs for 2 completion tokens"),
        (row_of(1, 51), "row 1: 51 completion tokens, above max_completion_tokens = 50"),
        (row_of(1, 2, advantage=math.nan), "row 1: its advantage is nan"),
        (row_of(1, 2, advantage=math.inf), "row 1: its advantage is inf"),
    ],
)
def test_rows_that_do_not_hold_together_are_refused(row, message):
    with pytest.raises(ValueError, match=message):
        make_batches([row_of(1, 1), row], micro_batch_tokens=10, **LIMITS)


def test_pad_right_by_hand():
    assert pad_right([[1, 2], [3]], 9.0).tolist() == [[1, 2], [3, 9]]
    assert pad_right([[], [4]], 0, torch.long).tolist() == [[0], [4]]
