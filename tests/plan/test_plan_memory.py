"""Bytes by hand, and the activations that autograd is seen to keep."""

import subprocess
import sys

import psutil
import torch
from torch import nn

from open_rs.plan.kept import KeptActivations
from open_rs.plan.memory import LOGIT_BYTES, Setting, Sizes, parts_of, phases_of, total_of
from open_rs.plan.resident import judge_bytes
from open_rs.plan.shapes import ModelShape
from open_rs.train import logprobs

SHAPE = ModelShape(
    hidden_size=8, intermediate_size=16, layers=2, heads=4, kv_heads=2, head_size=2,
    vocab_size=50, tied=True, counted=1000,
)  # fmt: skip
SIZES = Sizes(slots=3, positions=20, cap=10, forwarded=64, scored=40)
PLAIN = Setting(with_reference=True, gradient_checkpointing=False)


def test_chunks_of_logits_are_as_large_as_the_trainer_makes_them():
    assert logprobs.LOGIT_BYTES == LOGIT_BYTES


def test_parts_by_hand():
    parts = parts_of(SHAPE, SIZES, PLAIN)
    assert parts["weights"] == parts["reference"] == 4000
    assert (parts["gradients"], parts["optimizer"]) == (4000, 8000)
    # keys and values, slots, positions, layers, width; noise, id and log-prob of every token
    assert parts["kv_cache"] == 2 * 3 * 20 * 2 * 4 * 4 + 3 * 10 * 20
    assert parts["activations"] == 64 * (8 * 8 + 4 * 16) * 2 * 4
    assert parts["logits"] == 40 * 50 * 4
    assert parts["weight_copies"] == 2 * 8 * (8 + 2 * 4) * 4
    assert parts["save_copy"] == 4000 + 8000
    less = parts_of(SHAPE, SIZES, Setting(False, True))
    assert less["reference"] == 0
    # one layer in full and the input of each of the two
    assert less["activations"] == 64 * (128 + 2 * 8) * 4
    counted = parts_of(SHAPE, SIZES, Setting(False, False, kept=100.0))
    assert counted["activations"] == 6400


def test_phases_by_hand():
    parts = parts_of(SHAPE, SIZES, PLAIN)
    always = 4000 + 4000 + 8000
    phases = phases_of(parts, SHAPE)
    assert phases["rollout"] == always + parts["kv_cache"] + parts["weight_copies"]
    assert phases["update"] == always + parts["activations"] + parts["logits"] + 4000
    assert phases["save"] == phases["rollout"] + 12_000
    assert phases_of(parts, SHAPE, copies_on_host=True)["save"] == phases["rollout"]
    # one micro-batch: of the gradients only the head's is there with all activations
    once = phases_of(parts, SHAPE, batches=1)["update"]
    assert once == always + parts["activations"] + parts["logits"] + 50 * 8 * 4
    assert total_of(phases, {"update": 7, "save": 0}) == phases["update"] + 7


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)

    def forward(self, input_ids):
        one = nn.functional.one_hot(input_ids, 4).float().requires_grad_()
        return self.second(torch.relu(self.first(one)))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.base_model = Body()


def test_kept_activations_are_counted_once_and_without_weights():
    model = Model()
    with KeptActivations(model) as kept:
        out = model.base_model(input_ids=torch.tensor([[0, 1, 2]]))
        out.sum().backward()
    # inputs of the first product [3, 4] and what relu and the second share [3, 6], in float32
    assert kept.bytes == (3 * 4 + 3 * 6) * 4
    assert kept.tokens == 3


def test_a_peak_is_seen():
    """In a process of its own, where nothing else is freed meanwhile."""
    code = (
        "import torch\n"
        "from open_rs.plan.resident import PeakMemory\n"
        "with PeakMemory(torch.device('cpu')) as quiet: pass\n"
        "with PeakMemory(torch.device('cpu')) as peak:\n"
        "    held = torch.ones(20 * 2**20)\n"
        "    del held\n"
        "print(peak.bytes - quiet.bytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 60 * 2**20 < int(done.stdout) < 120 * 2**20


def test_the_processes_of_a_judge_are_weighed_and_ended():
    before = set(psutil.Process().children(recursive=True))
    held = judge_bytes()
    assert 20 * 2**20 < held < 300 * 2**20  # sympy alone is some 40 MB
    assert set(psutil.Process().children(recursive=True)) == before
