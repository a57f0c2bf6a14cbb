"""Ranks of a job without processes: shares, messages, greetings, and what is refused."""

import hashlib
import os
import pickle
import signal
import socket
import time
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import build_model

from open_rs.errors import GuardStop, InputError
from open_rs.interrupt import Interrupted, patient, poll, stop_on_signals
from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import LossRecipe, ModelRecipe, recipe_from_dict
from open_rs.rollout.protocol import Prompt, SamplingParams
from open_rs.runs import different_keys
from open_rs.train import distributed, distributed_join, distributed_work, setup
from open_rs.train.batches import Row
from open_rs.train.distributed import Left, RankFailed, Ranks, blaming
from open_rs.train.distributed_join import (
    agree_on_model,
    check_greetings,
    greeting,
    meet,
    model_facts,
)
from open_rs.train.distributed_layout import Replicated, bit_sums, buckets
from open_rs.train.distributed_work import SharedSampler, Step, equal_shares, filler, share_batches
from open_rs.train.update import update

# --- shares ---


@given(st.lists(st.integers(1, 500), max_size=40), st.integers(1, 9))
def test_rows_are_cut_into_shares_of_as_many_tokens(lengths, count):
    shares = equal_shares(range(len(lengths)), lengths, count)
    assert [place for share in shares for place in share] == list(range(len(lengths)))
    assert len(shares) == count
    fair = sum(lengths) / count
    for share in shares:
        tokens = sum(lengths[place] for place in share)
        assert abs(tokens - fair) <= max(lengths, default=0)  # half a row at either end


def test_shares_by_hand():
    # 10 tokens for two ranks: the row of 4 has its middle at 5 = half, so it goes to the second
    assert equal_shares([7, 8, 9], [3, 4, 3], 2) == [[7], [8, 9]]
    assert equal_shares([7], [3], 3) == [[], [7], []]
    assert equal_shares([], [], 2) == [[], []]


@given(st.integers(0, 50), st.integers(1, 9))
def test_completions_are_shared_out_evenly(number, count):
    shares = equal_shares(range(number), [41.7] * number, count)
    assert [place for share in shares for place in share] == list(range(number))
    assert {len(share) for share in shares} <= {number // count, number // count + 1}


def test_completions_are_shared_out_by_the_tokens_expected_of_them():
    """The first problem's completions are half of the tokens; the new one counts as the mean."""
    problems = [Problem("long", "?", "1"), Problem("new", "?", "1"), Problem("short", "?", "1")]
    prompts = [
        Prompt(problem, [5], expected_tokens=tokens)
        for problem, tokens in zip(problems, (30.0, None, 10.0), strict=True)
    ]
    ranks = Noted(2)
    ranks.all_parts = lambda: iter(())
    taken = []
    own = SimpleNamespace(
        engine=None, grader=None, prompter=None, sample=lambda *_, **given: taken.append(given)
    )
    sampler = SharedSampler(own, Replicated(build_model("llama"), ranks))
    sampler.sample(prompts, group_size=2, params=SamplingParams(9), seed=0)
    shares = [share.wanted for (share,) in ranks.given["sample"]]
    # 30, 30, 20, 20, 10, 10 of 120: middles at 15, 45, 70, 90, 105, 115
    assert shares[0] == {("long", 0), ("long", 1)}
    assert shares[1] == {(id, sample) for id in ("new", "short") for sample in (0, 1)}
    assert [one.problem.id for one in ranks.given["sample"][0][0].prompts] == ["long"]
    assert len(taken) == 1


class Noted(Ranks):
    """Ranks of which the orders are kept; nobody else is there."""

    def __init__(self, count: int = 3):
        super().__init__(0, count)
        self.given = {}

    def order_each(self, name, arguments):
        self.given[name] = arguments

    def wait(self):
        return {}


def rows_of(model) -> list[Row]:
    generator = torch.Generator().manual_seed(4)

    def ids(count: int) -> list[int]:
        return torch.randint(5, model.config.vocab_size, (count,), generator=generator).tolist()

    prompts = [ids(9), ids(14)]
    return [
        Row(prompts[i % 2], ids(length), [-1.0] * length, advantage)
        for i, (length, advantage) in enumerate(
            [(5, 1.0), (9, -0.5), (3, 0.0), (7, 2.0), (1, -1.0), (6, 0.3)]
        )
    ]


@pytest.mark.parametrize("norm", ["sequence", "token", "constant"])
def test_the_shares_of_a_step_add_up_to_its_gradient(norm):
    """Three ranks' gradients, one after the other, against that of a process by itself."""
    model = build_model("llama")
    settings = {"micro_batch_tokens": 30, "loss_norm": norm, "max_completion_tokens": 9}
    alone = share_batches(Replicated(model), rows_of(model), kl_coef=0.0, **settings)
    ranks = Noted()
    layout = Replicated(model, ranks)
    own = share_batches(layout, rows_of(model), kl_coef=0.0, **settings)
    given = [batches for (batches,) in ranks.given["take"]]
    assert given[0] is own and len(given) == 3
    learnt = [row for batches in given for batch in batches for row in batch.rows]
    assert sorted(learnt) == [0, 1, 3, 4, 5]  # the third has no advantage

    def gradient(batches) -> list[torch.Tensor]:
        model.zero_grad()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        kept: list[torch.Tensor] = []
        optimizer.register_step_pre_hook(
            lambda *_: kept.extend(p.grad.clone() for p in model.parameters())
        )
        update(
            model,
            optimizer,
            batches,
            LossRecipe(loss_norm=norm),
            temperature=1.0,
            max_grad_norm=1e9,
            first_of_batch=True,
            autocast=torch.autocast("cpu", enabled=False),
        )
        return kept

    whole = gradient(alone)
    parts = [gradient(batches) for batches in given]
    for place, expected in enumerate(whole):
        summed = sum(part[place] for part in parts)
        torch.testing.assert_close(summed, expected, rtol=1e-5, atol=1e-7)


def test_where_layers_are_gathered_every_rank_has_as_many_micro_batches():
    model, ranks = build_model("llama"), Noted()
    layout = Replicated(model, ranks)
    layout.is_sharded = True
    settings = {"micro_batch_tokens": 1, "loss_norm": "token", "max_completion_tokens": 9}
    share_batches(layout, rows_of(model), kl_coef=0.0, **settings)
    given = [batches for (batches,) in ranks.given["take"]]
    assert [len(batches) for batches in given] == [2, 2, 2]
    assert sum(not batch.rows for batches in given for batch in batches) == 1  # of 6, for 5 rows


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_filler_counts_for_nothing(level):
    model = build_model("llama")
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [parameter.clone() for parameter in model.parameters()]
    metrics = update(
        model,
        optimizer,
        [filler()],
        LossRecipe(kl_coef=0.5, ratio_level=level),
        temperature=1.0,
        max_grad_norm=1.0,
        first_of_batch=True,
        autocast=torch.autocast("cpu", enabled=False),
    )
    assert metrics["optim/grad_norm"] == 0.0 and metrics["policy/loss"] == 0.0
    assert "policy/entropy" not in metrics
    assert all(map(torch.equal, before, model.parameters()))


def test_gradients_are_summed_in_buckets(monkeypatch):
    monkeypatch.setattr("open_rs.train.distributed_layout.BUCKET_BYTES", 40)
    sizes = [4, 5, 20, 1, 1]  # of 4 bytes each: 36 fit together, the third is alone
    found = buckets([torch.zeros(size) for size in sizes])
    assert [[len(one) for one in bucket] for bucket in found] == [[4, 5], [20], [1, 1]]
    mixed = [torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)]
    assert [len(bucket) for bucket in buckets(mixed)] == [1, 1]


# --- messages ---


@pytest.fixture
def pair() -> tuple[Ranks, Ranks]:
    """A leader and another rank with one store."""
    store = dist.HashStore()
    leader, other = (Ranks(rank, 2, store) for rank in range(2))
    leader.hosts = ["here", "there"]
    return leader, other


def test_an_order_is_carried_out_and_answered(pair):
    leader, other = pair
    leader.order_each("sample", [(), ("a share",)])
    assert other.next_order() == ("sample", ("a share",))
    other.send("part", 1)
    assert list(leader.parts()) == [1]
    other.send("part", 2)
    other.send("done", "all")
    assert list(leader.all_parts()) == [2]
    assert leader.answers == {1: "all"}
    leader.order("end")
    assert other.next_order() == ("end", ())


def test_what_another_rank_raised_is_told_under_its_name(pair):
    leader, other = pair
    leader.order("open")
    other.next_order()
    other.send_failure(InputError("model.path x: no such folder"))
    with pytest.raises(InputError, match=r"^rank 1 on there: model\.path x: no such folder$"):
        leader.wait()
    with pytest.raises(InputError, match="rank 1"), blaming(leader):
        raise RuntimeError("what followed from it")


def test_a_bug_of_another_rank_keeps_its_traceback(pair):
    leader, other = pair
    leader.order("update")
    other.next_order()
    try:
        raise ValueError("boom")
    except ValueError as error:
        other.send_failure(error)
    # this rank notices by a collective that broke, and looks for the reason
    with pytest.raises(RankFailed, match=r"(?s)rank 1 on there: Traceback.*boom"), blaming(leader):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")


def test_a_rank_that_is_gone_stops_the_run_resumably(pair):
    leader, _ = pair
    leader.order("update")
    with (
        pytest.raises(GuardStop, match=r"another rank is gone \(.*closed by peer"),
        blaming(leader),
    ):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")
    other_error = ZeroDivisionError("of this rank")
    assert Ranks(0, 2, dist.HashStore()).cause_of(other_error) is None
    assert Ranks().cause_of(other_error) is None


def test_a_silent_rank_is_named(pair, monkeypatch):
    leader, _ = pair
    monkeypatch.setattr(distributed, "SILENCE_S", 0.05)
    leader.order("sample")
    with pytest.raises(GuardStop, match="rank 1 on there has been silent"):
        leader.wait()


def test_an_order_that_counts_no_more_is_left(pair):
    leader, other = pair
    leader.order("sample")
    other.next_order()
    other.look(time.monotonic())
    leader.order("gather")
    with pytest.raises(Left):
        other.look(time.monotonic() + 1)
    assert other.next_order() == ("gather", ())


def test_a_signal_to_another_rank_stops_the_leader(pair):
    leader, other = pair
    leader.order("sample")
    other.next_order()
    with other.passing_signals_on():
        os.kill(os.getpid(), signal.SIGUSR1)
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL  # a second one ends it
    other.look(time.monotonic())
    with stop_on_signals(), pytest.raises(Interrupted, match="SIGUSR1"):
        leader.wait()


def test_between_meeting_points_a_stop_waits():
    with stop_on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        with patient():
            poll()
        with pytest.raises(Interrupted):
            poll()


# --- replicas of the weights ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_fingerprint_sees_one_bit_of_one_weight(dtype):
    model = build_model("llama").to(dtype)
    other = deepcopy(model)
    assert bit_sums(other) == bit_sums(model)
    entry = list(other.parameters())[-1].data.flatten()[-1:]
    entry.copy_(torch.nextafter(entry, entry + 1))
    assert bit_sums(other) != bit_sums(model)


def test_a_fingerprint_by_hand():
    first, second = torch.tensor([1, -2, 3], dtype=torch.int32), torch.tensor([7, 8])
    held = torch.nn.Module()
    held.one = torch.nn.Parameter(first.view(torch.float32))
    held.two = torch.nn.Parameter(second.view(torch.float64))
    assert bit_sums(held) == hashlib.sha256(b"[2, 15]").hexdigest()  # 1 - 2 + 3 and 7 + 8


@pytest.mark.parametrize("factor", [1.0, 1.0 + 2**-23])
def test_ranks_that_train_apart_end_the_run(monkeypatch, factor):
    """Rank 1's weights times 1, and times the next number, after an update by the same gradient."""
    model = build_model("llama")
    other = deepcopy(model)
    with torch.no_grad():
        next(other.parameters()).mul_(factor)
    ranks = Noted(2)
    ranks.hosts = ["here", "there"]
    ranks.wait = lambda: {1: (Replicated(other).fingerprint(), None)}
    same_norm = {"optim/grad_norm": 1.0}
    monkeypatch.setattr(distributed_work, "take_step", lambda *_: dict(same_norm))
    step = Step(LossRecipe(), 0.1, 1.0, 1.0, True, 0)
    ask = partial(distributed_work.update, Replicated(model, ranks), None, [], step, nullcontext())
    if factor == 1:
        assert ask() == same_norm
    else:
        with pytest.raises(GuardStop, match="rank 1 on there has other weights than rank 0 after"):
            ask()


# --- greetings ---


def greeted(change: dict) -> str:
    """What the leader says of a rank whose greeting differs by `change`."""
    ranks, own = Ranks(0, 2, dist.HashStore()), recipe_from_dict({})
    ranks.store.set("greeting/1", pickle.dumps(greeting(own, []) | {"host": "there"} | change))
    with pytest.raises(InputError) as refused:
        check_greetings(ranks, greeting(own, []), own)
    return str(refused.value)


def test_ranks_that_differ_are_named_with_the_cure():
    assert greeted({"error": "recipe.toml: no such file"}) == (
        "rank 1 on there: recipe.toml: no such file"
    )
    other = recipe_from_dict({"train": {"beta1": 0.8}}).model_dump(mode="json")
    assert greeted({"recipe": other}) == (
        "rank 1 on there: differs from rank 0 in recipe.train.beta1; give every rank the same file"
    )
    versions = greeting(None, [])["versions"] | {"torch": "1.0"}
    assert "in versions.torch; install the same everywhere" in greeted({"versions": versions})
    assert "in settings; give every rank the same command" in greeted({"settings": ["x"]})
    for name in ("open-rs code", "sympy", "tokenizers"):
        versions = greeting(None, [])["versions"] | {name: "another"}
        assert f"in versions.{name}; install" in greeted({"versions": versions})


def facts_of(monkeypatch, template=None):
    recipe = ModelRecipe(path="tiny", device="cpu")
    if template is not None:
        tokenizer = load_tokenizer(recipe)
        tokenizer.chat_template += template
        monkeypatch.setattr(distributed_join, "load_tokenizer", lambda _: tokenizer)
    return model_facts(load_model(recipe), recipe)


def test_another_model_under_the_same_path_is_named(monkeypatch):
    recipe, facts = ModelRecipe(path="./model"), facts_of(monkeypatch)
    config = facts["config"] | {"rms_norm_eps": 1e-5}
    theirs = {}

    def gather(held, own):
        held[:] = [facts, facts | theirs]

    monkeypatch.setattr(distributed_join, "model_facts", lambda *_: facts)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    leader, other = (Ranks(rank, 2, dist.HashStore()) for rank in range(2))
    leader.hosts = ["here", "there"]
    for ranks in (leader, other, Ranks()):
        agree_on_model(ranks, None, recipe)
    theirs["config"] = config
    with pytest.raises(InputError) as told:
        agree_on_model(leader, None, recipe)
    assert str(told.value) == (
        "rank 1 on there: model.path ./model is another model there, it differs from rank 0 in "
        "config.rms_norm_eps; give every rank the same"
    )
    with pytest.raises(Left):  # the leader says it
        agree_on_model(other, None, recipe)


def test_another_tokenizer_is_another_model(monkeypatch):
    facts = facts_of(monkeypatch)
    assert facts == facts_of(monkeypatch, "")
    assert set(different_keys(facts, facts_of(monkeypatch, " "))) == {"tokenizer"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "ACCELERATE_USE_DEEPSPEED",
            "true",
            'leave --use_deepspeed out .* train.sharding = "full"',
        ),
        ("ACCELERATE_USE_FSDP", "true", 'leave --use_fsdp out .* train.sharding = "full"'),
        ("ACCELERATE_MIXED_PRECISION", "bf16", "leave --mixed_precision out .* set model.dtype"),
        ("ACCELERATE_MIXED_PRECISION", "no", None),
    ],
)
def test_what_accelerate_was_told_in_vain_is_refused(monkeypatch, name, value, said):
    for one in distributed_join.UNHEEDED:
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(name, value)
    ranks = Ranks(0, 1, dist.HashStore())
    if said is None:
        assert distributed_join.agree(ranks, lambda: None, [])
        return
    with pytest.raises(InputError, match=said):
        distributed_join.agree(ranks, lambda: None, [])
    assert pickle.loads(ranks.store.get("welcome")) == (None, None)  # the others end


def test_more_ranks_than_devices_are_refused(monkeypatch):
    monkeypatch.setattr(distributed_join, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    said = greeted({"local_rank": 1, "devices": 1})
    assert said.startswith("rank 1 on there: is number 2 there, and torch sees 1 CUDA devices")
    assert 'model.device = "cpu"' in said


def test_a_rank_that_does_not_come_is_named(monkeypatch):
    monkeypatch.setattr(distributed_join, "JOIN_S", 0.05)
    ranks = Ranks(0, 2, dist.HashStore())
    with pytest.raises(InputError, match="rank 1 of 2 did not come within 0 s"):
        check_greetings(ranks, greeting(None, []), None)


def launched(monkeypatch, **environment: str) -> None:
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_an_incomplete_launch_is_refused(monkeypatch):
    launched(monkeypatch, RANK="0", WORLD_SIZE="2")
    with pytest.raises(InputError, match=r"MASTER_ADDR.*start by torchrun or accelerate launch"):
        meet()


def test_a_port_that_is_taken_is_named(monkeypatch):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        launched(monkeypatch, RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        with pytest.raises(InputError, match=f"127.0.0.1:{port} is in use by another process"):
            meet()


# --- what ranks cannot do ---


def test_adapters_are_not_sharded():
    with pytest.raises(InputError, match=r"adapters \(model.lora\) are small and not sharded"):
        recipe_from_dict({"model": {"lora": {"rank": 4}}, "train": {"sharding": "full"}})


def test_engines_with_a_device_of_their_own(monkeypatch):
    two = Ranks(0, 2, dist.HashStore())
    inside = recipe_from_dict({"rollout": {"engine": {"type": "vllm"}}})
    with pytest.raises(InputError, match='"vllm_server" for servers of their own'):
        setup.refuse_with_ranks(inside, two)
    setup.refuse_with_ranks(inside, Ranks())
    engine = {"type": "vllm_server", "urls": ["http://127.0.0.1:1"]}
    served = {"rollout": {"engine": engine}}
    setup.refuse_with_ranks(recipe_from_dict(served), two)
    setup.refuse_with_ranks(recipe_from_dict(served | {"train": {"sharding": "full"}}), two)
