"""Several devices by hand: bytes over links, who holds what, who waits for whom."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from open_rs.errors import InputError
from open_rs.plan.cluster import (
    Cluster,
    balanced,
    cluster_of,
    dealt,
    engine_pace,
    exchange,
    phases_in,
    split_parts,
)
from open_rs.plan.devices import DEVICES, FOLDER_BYTES_S, HOP_S
from open_rs.plan.lengths import Lengths
from open_rs.plan.memory import Setting, Sizes, parts_of, phases_of
from open_rs.plan.pace import Pace, device_pace
from open_rs.plan.schedule import Group
from open_rs.plan.shapes import known_shape
from open_rs.plan.workload import Machine, called, made_steps
from open_rs.recipe import recipe_from_dict

LARGE = known_shape("Qwen/Qwen2.5-32B")
# 1,000 weights: 4,000 bytes of them and of gradients, 2,000 of an engine's copy; two layers
SMALL = replace(LARGE, counted=1000, layers=2)
SLOW = {"link": 10_000.0, "fabric": 500.0}  # 7,000 and 350 bytes a second after LINK_EFFICIENCY


def seconds(value):
    return pytest.approx(value, rel=1e-9)


def test_gradients_go_round_a_ring():
    # 4 devices: each sends 2 * 3/4 * 4,000 = 6,000 bytes; 2 * 2 hops
    said = exchange(Cluster(devices=4, **SLOW), SMALL)
    assert said.step == seconds(6000 / 7000 + 4 * HOP_S)
    assert (said.micro_batch, said.weights) == (0, 0)
    assert exchange(Cluster(), SMALL).step == 0


def test_a_ring_over_several_nodes_has_an_adapter_a_device():
    # 16 devices in 2 nodes: min(10,000, 8 * 500) * 0.7 = 2,800; 2 * 15/16 * 4,000 = 7,500 bytes
    said = exchange(Cluster(devices=16, **SLOW), SMALL)
    assert said.step == seconds(7500 / 2800 + 8 * HOP_S)


def test_sharded_weights_are_gathered_twice_and_gradients_scattered_once():
    said = exchange(Cluster(devices=4, sharded=True, **SLOW), SMALL)
    # 3 * 3/4 * 4,000 = 9,000 bytes; 3 calls for each of 2 layers and the rest, 2 hops
    assert said.micro_batch == seconds(9000 / 7000 + 9 * 2 * HOP_S)
    assert said.weights == seconds(3000 / 7000)  # whole, to sample from
    assert said.step == 0


def test_adapters_alone_are_summed():
    said = exchange(Cluster(devices=4, **SLOW), replace(SMALL, lora=10))
    assert said.step == seconds(2 * 0.75 * 40 / 7000 + 4 * HOP_S)


def test_engines_apart_get_the_weights_by_a_file():
    said = exchange(Cluster(devices=4, engines_apart=1, **SLOW), SMALL)
    assert said.weights == seconds(2 * 2000 / FOLDER_BYTES_S)  # written and read
    # 3 trainers: 2 * 2/3 * 4,000 bytes
    assert said.step == seconds(16_000 / 3 / 7000 + 4 * HOP_S)
    shares = exchange(Cluster(devices=4, engines_apart=1, sharded=True, **SLOW), SMALL)
    # whole first: 2/3 * 4,000 bytes
    assert shares.weights == seconds(8000 / 3 / 7000 + 4000 / FOLDER_BYTES_S)


def test_links_are_those_of_the_device():
    cluster = cluster_of(DEVICES["H100"], 8)
    assert cluster.rate(8) == seconds(0.7 * 450e9)
    # 1.78e9 gradients in float32: 2 * 7/8 * 7.1 GB at 315 GB/s are 39 ms
    shape = known_shape("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")
    assert exchange(cluster, shape).step == pytest.approx(0.0395, abs=2e-4)


PARTS = parts_of(
    LARGE,
    Sizes(slots=64, positions=4608, cap=4096, forwarded=8192, scored=8000),
    Setting(with_reference=False, gradient_checkpointing=True, autocast=True),
)


def test_each_of_64_devices_holds_a_64th():
    cluster = Cluster(devices=64, sharded=True)
    made = split_parts(PARTS, LARGE, cluster)
    whole = 32_763_876_352 * 4  # float32
    assert made["weights"] == pytest.approx(whole / 64, abs=1)
    assert made["optimizer"] == pytest.approx(2 * whole / 64, abs=1)
    assert made["whole"] == whole
    # two layers of 487.6 M weights, embedding and head of 778.6 M each, and their gradients
    assert made["gathered"] == 8 * (2 * 487_587_840 + 2 * 778_567_680)
    phases = phases_in(made, LARGE, cluster, copies_on_host=True)
    held = made["weights"] + made["optimizer"]
    assert phases["rollout"] == held + whole + made["kv_cache"] + made["weight_copies"]
    passing = made["activations"] + made["logits"] + made["gathered"]
    assert phases["update"] == held + made["gradients"] + passing
    assert phases["save"] == held + whole


def test_without_shards_nothing_changes():
    cluster = Cluster(devices=8)
    made = split_parts(PARTS, LARGE, cluster)
    assert made == PARTS
    assert phases_in(made, LARGE, cluster) == phases_of(PARTS, LARGE)


def test_an_engine_apart_holds_no_moments():
    cluster = Cluster(devices=8, engines_apart=4, split=4)
    made = split_parts(PARTS, LARGE, cluster)
    assert made["kv_cache"] == PARTS["kv_cache"] // 4
    assert phases_in(made, LARGE, cluster)["rollout"] == made["kv_cache"] + LARGE.parameters // 2


def test_a_split_engine_reads_less_and_talks():
    device = DEVICES["H100"]
    whole = engine_pace(device, LARGE, cluster_of(device, 8))
    split = engine_pace(device, LARGE, cluster_of(device, 8, split=8))
    assert whole == device_pace(device, LARGE)
    launch = 64 * 90e-6
    # an eighth of the reading; 2 calls a layer, each there and back over 3 hops
    told = (whole.decode[1] - launch) / 8 + launch + 2 * 128 * 3 * HOP_S
    assert split.decode[1] == pytest.approx(told)
    assert split.decode[2] > whole.decode[2] / 8


def test_computing_activations_again_costs_a_third():
    device = DEVICES["A40"]
    once, again = (device_pace(device, LARGE, checkpointing=one) for one in (False, True))
    assert again.update[1] / once.update[1] == pytest.approx(4 / 3)
    # the pass of a reference is not repeated: as long, so a smaller share of an update
    assert again.reference / once.reference == pytest.approx(3 / 4)


GROUPS = st.lists(
    st.builds(Group, st.integers(1, 50), st.lists(st.integers(1, 90), min_size=1).map(tuple)),
    min_size=1,
    max_size=20,
)


def rows_of(groups):
    return [(one.prompt, length) for one in groups for length in one.lengths]


@given(GROUPS, st.integers(1, 9))
def test_every_row_goes_to_one_device(groups, shares):
    rows = rows_of(groups)
    drawn = [rows_of(share) for share in dealt(groups, shares)]
    assert [one for share in drawn for one in share] == rows
    assert len(drawn) == min(shares, len(rows))
    assert max(map(len, drawn)) - min(map(len, drawn)) <= 1
    learnt = [rows_of(share) for share in balanced(groups, shares)]
    assert [one for share in learnt for one in share] == rows
    tokens = [sum(map(sum, share)) for share in learnt]
    longest = max(map(sum, rows))
    assert all(abs(one - sum(tokens) / shares) <= longest for one in tokens)


def test_shares_are_those_of_the_trainer():
    work = pytest.importorskip("open_rs.train.distributed_work")
    groups = [Group(5, (10, 30, 7)), Group(9, (20, 3)), Group(2, (50,))]
    rows = rows_of(groups)
    for count in (1, 2, 4, 7):
        drawn = [
            [rows[place] for place in share]
            for share in work.equal_shares(range(len(rows)), [1] * len(rows), count)
        ]
        assert [rows_of(one) for one in dealt(groups, count)] == [one for one in drawn if one]
        places = work.equal_shares(range(len(rows)), list(map(sum, rows)), count)
        learnt = [[rows[place] for place in share] for share in places]
        assert [rows_of(one) for one in balanced(groups, count)] == learnt


# a second for each step of decoding, and for each micro-batch
PACE = Pace(decode=(0, 1, 0, 0, 0, 0), update=(1, 0, 0), optimizer_s=0.5)
RECIPE = recipe_from_dict({"rollout": {"group_size": 2, "prompts_per_step": 2}})


def step_of(cluster, lengths):
    machine = Machine(PACE, SMALL, True, 0.0, cluster)
    return made_steps(RECIPE, lengths, machine, problems=None)


def test_the_last_engine_is_waited_for():
    machine = Machine(PACE, SMALL, True, 0.0, Cluster(devices=2))
    # 10 and 30 steps side by side: the call takes 30, the mean engine 20
    groups = [Group(5, (10, 10)), Group(5, (10, 30))]
    assert called(groups, machine, 64) == (30, 20, (2, 35))
    lengths = Lengths((Group(5, (10, 30)),), 100, 100, "the probe")
    step = step_of(machine.cluster, lengths)
    assert 10 < step.rollout_s <= 30 and 0 < step.waiting_s < 10


def test_slow_links_are_waited_for_where_weights_are_sharded():
    lengths = Lengths((Group(5, (10,)),), 100, 100, "the probe")
    fast = step_of(Cluster(devices=2, sharded=True), lengths)
    assert fast.update_s == pytest.approx(1 + 0.25)  # one micro-batch; half of AdamW's weights each
    slow = Cluster(devices=2, sharded=True, link=1000.0)
    # 3 * 1/2 * 4,000 = 6,000 bytes at 700 a second
    assert step_of(slow, lengths).update_s == pytest.approx(6000 / 700 + 9 * HOP_S)


def test_one_step_off_the_longer_of_both_counts():
    lengths = Lengths((Group(5, (10,)),), 100, 100, "the probe")
    cluster = Cluster(devices=2, engines_apart=1)
    step = step_of(cluster, lengths)
    assert step.seconds(cluster) == pytest.approx(10 + 1.5 + step.exchange_s)
    both = replace(cluster, overlapped=True)
    assert step.seconds(both) == pytest.approx(10 + step.exchange_s)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"devices": 4, "engines_apart": 4}, "--rollout-gpus 4"),
        ({"devices": 4, "engines_apart": 1, "split": 2}, "--split 2"),
        ({"devices": 16, "split": 16}, "within a node"),
        ({"devices": 4, "overlapped": True}, "give --rollout-gpus"),
    ],
)
def test_layouts_that_cannot_be(layout, words):
    with pytest.raises(InputError, match=words):
        Cluster(**layout)
