"""Stop strings against the brute force: decode after every token and look."""

import random

import pytest
import torch
from tiny_models import build_model, byte_tokenizer, make_prompts
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import SamplingParams
from open_rs.rollout.stops import StopStrings

TEXT = "the answer is 12.\n\nthen 答案是 12。 END of it, the end.</think>\n so the answer: 7\n\n\n"


def merged_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE whose tokens hold several characters, or parts of one."""
    backend = Tokenizer(BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<eos>"],
        show_progress=False,
    )
    backend.train_from_iterator([TEXT] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>")


def first_end(tokenizer, ids, stop):
    """How many tokens until the text holds a stop string, None if it never does."""
    for count in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:count], skip_special_tokens=True)
        if any(string in text for string in stop):
            return count
    return None


def engine_end(tester, ids):
    """The same by `enders` and `reached`, as the engine uses them."""
    for count in range(1, len(ids) + 1):
        if tester.enders[ids[count - 1]] and tester.reached(ids[:count]):
            return count
    return None


@pytest.mark.parametrize(
    "stop", [("END",), ("12.", "。"), ("\n\n",), ("</think>",), ("答案",), (" it,", "zz"), ("r",)]
)
def test_stops_are_found_where_decoding_every_prefix_finds_them(stop):
    tokenizer = merged_tokenizer()
    tester = StopStrings(tokenizer, stop, len(tokenizer))
    generator = random.Random(0)
    found = 0
    for _ in range(40):
        pieces = [generator.choice([*stop, TEXT[k : k + 6], "x"]) for k in range(8)]
        ids = tokenizer("".join(pieces))["input_ids"]
        for place in sorted(generator.sample(range(len(ids)), 3), reverse=True):
            # noise: a special token that the text does not show, or any token
            ids.insert(place, generator.choice([0, generator.randrange(len(tokenizer))]))
        expected = first_end(tokenizer, ids, stop)
        assert engine_end(tester, ids) == expected
        found += expected is not None
    assert found > 10


def test_special_tokens_between_do_not_hide_a_stop_and_are_none():
    tokenizer = merged_tokenizer()
    e, n, d = (tokenizer(letter)["input_ids"][0] for letter in "END")
    tester = StopStrings(tokenizer, ["END"], len(tokenizer))
    assert tester.reached([e, n, d]) and not tester.reached([e, n])
    assert tester.reached([e, *[0] * 50, n, 0, d])
    assert not StopStrings(tokenizer, ["<eos>"], len(tokenizer)).reached([0])


def test_text_is_cut_after_the_stop_that_ends_first():
    tester = StopStrings(merged_tokenizer(), ["bcd", "c"], 10)
    assert tester.cut("abcde") == "abc"  # "c" ends at 3, "bcd" at 4
    assert tester.cut("xyz") == "xyz"


@pytest.mark.parametrize("slots", [1, 64])
def test_engine_stops_at_the_token_that_completes_a_stop_string(slots):
    model, tokenizer = build_model("qwen2"), byte_tokenizer()
    # letters alone: of each pair of opposite output rows, one gets a large logit
    allowed = tokenizer("etaoin shr")["input_ids"]
    with torch.no_grad():
        rows = model.lm_head.weight[allowed[::2]] * 6
        model.lm_head.weight.zero_()
        model.lm_head.weight[allowed[::2]] = rows
        model.lm_head.weight[allowed[1::2]] = -rows
    prompts = make_prompts([3, 9, 5])
    stop = ("ta", "e", " o")

    def sample(stop):
        engine = NativeEngine(model, tokenizer, max_slots=slots)
        params = SamplingParams(max_completion_tokens=40, stop=stop)
        groups = engine.generate(prompts, group_size=4, params=params, seed=1)
        return [rollout for group in groups for rollout in group.rollouts]

    reasons = set()
    for free, stopped in zip(sample(()), sample(stop), strict=True):
        end = first_end(tokenizer, free.completion_ids, stop)
        assert stopped.completion_ids == free.completion_ids[:end]
        assert stopped.finish_reason == ("length" if end is None else "stop")
        assert stopped.completion == tokenizer.decode(stopped.completion_ids)
        assert end is None or stopped.completion.endswith(stop)
        reasons.add(stopped.finish_reason)
    assert "stop" in reasons


def test_another_set_of_stops_in_the_next_call_is_not_the_last_one():
    model, tokenizer = build_model("qwen2"), byte_tokenizer()
    engine = NativeEngine(model, tokenizer)
    prompts = make_prompts([3])
    ids = {}
    for stop in ((), ("a", "b", "c", "d", "e", "f", "g", "h"), ()):
        params = SamplingParams(max_completion_tokens=60, stop=stop)
        groups = engine.generate(prompts, group_size=4, params=params, seed=1)
        ids.setdefault(stop, []).append([r.completion_ids for r in groups[0].rollouts])
    free, again = ids[()]
    assert free == again != ids["a", "b", "c", "d", "e", "f", "g", "h"][0]
