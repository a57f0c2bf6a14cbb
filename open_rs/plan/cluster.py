"""Several devices: what each of them holds, what they send each other, how work is dealt to them.

Bytes that one of n devices sends while all do the same, for S bytes in all (rings; Patarasu and
Yuan 2009): all-gather and reduce-scatter (n - 1) / n S each, all-reduce twice as many. Arithmetic
over stated links; no link was measured. No torch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil, log2
from operator import itemgetter
from typing import Any

from open_rs.errors import InputError
from open_rs.plan.devices import (
    FOLDER_BYTES_S,
    HOP_S,
    LINK_EFFICIENCY,
    NODE_100G,
    PCIE4,
    PER_NODE,
    Device,
)
from open_rs.plan.memory import phases_of
from open_rs.plan.pace import Pace, device_pace
from open_rs.plan.schedule import Group
from open_rs.plan.shapes import FLOAT, HALF, ModelShape
from open_rs.recipe import Recipe

EXCHANGES_PER_LAYER = 2  # of an engine whose layers are split: after attention and after the MLP


@dataclass(frozen=True)
class Cluster:
    """`devices` that are alike.

    Attributes:
        engines_apart: so many of them only generate, the others only train; 0: all do both in turn.
        sharded: each that trains holds a share of weights, gradients and moments (FSDP), not all of
            them (DDP).
        split: devices over which each layer of an engine is split (tensor parallel).
        overlapped: engines apart generate the next batch while this one is learnt, with weights
            that are one step old.
    """

    devices: int = 1
    engines_apart: int = 0
    sharded: bool = False
    split: int = 1
    overlapped: bool = False
    link: float = PCIE4
    fabric: float = NODE_100G
    per_node: int = PER_NODE

    def __post_init__(self) -> None:
        if not 0 <= self.engines_apart < self.devices:
            raise InputError(
                f"--rollout-gpus {self.engines_apart}: of {self.devices} devices at least one has "
                f"to train; give at most {self.devices - 1}"
            )
        if self.engine_devices % self.split or self.split > self.per_node:
            raise InputError(
                f"--split {self.split}: an engine is split within a node of {self.per_node}, and "
                f"{self.engine_devices} devices with engines have to divide by it"
            )
        if self.overlapped and not self.engines_apart:
            raise InputError(
                "--one-step-off: only engines on devices of their own generate while others train; "
                "give --rollout-gpus as well"
            )

    @property
    def trainers(self) -> int:
        return self.devices - self.engines_apart

    @property
    def engine_devices(self) -> int:
        return self.engines_apart or self.devices

    @property
    def engines(self) -> int:
        return self.engine_devices // self.split

    @property
    def shard(self) -> int:
        """So many devices hold the weights together."""
        return self.trainers if self.sharded else 1

    def rate(self, among: int) -> float:
        """Bytes a second of one device in a ring of neighbours. Over a node's border go as many
        rings as it has adapters, each with its part of the bytes.
        """
        whole = self.link if among <= self.per_node else min(self.link, self.fabric * self.per_node)
        return whole * LINK_EFFICIENCY


def cluster_of(device: Device | None, devices: int, **layout: Any) -> Cluster:
    """Of so many of the table's devices; of unknown ones with the slowest links of the table."""
    cluster = Cluster(devices=devices, **layout)
    return cluster if device is None else replace(cluster, link=device.link, fabric=device.fabric)


def as_asked(cluster: Cluster, recipe: Recipe) -> Cluster:
    """With weights sharded where the recipe says so; a device that trains by itself holds all."""
    return replace(cluster, sharded=recipe.train.sharding == "full" and cluster.trainers > 1)


def part_of(size: float, among: int) -> float:
    """Bytes that a device sends in an all-gather, or a reduce-scatter, of `size` bytes."""
    return size * (among - 1) / among


def hops(among: int) -> float:
    """Seconds until the last of them has heard of it."""
    return HOP_S * ceil(log2(among))


ALONE = Cluster()


@dataclass(frozen=True)
class Exchange:
    """Seconds: `micro_batch`, beside the computation of each; `step`, once after the last of them;
    `weights`, until the engines have them.
    """

    micro_batch: float = 0.0
    step: float = 0.0
    weights: float = 0.0


def exchange(cluster: Cluster, shape: ModelShape) -> Exchange:
    """What devices say to each other in a step.

    Gradients are summed in float32 over all who train: once a step, or, where weights are sharded,
    by every micro-batch, which also gathers the weights for its forward and again for its backward
    pass, layer by layer. Engines apart are handed the weights by a file.
    """
    trainers, gradients = cluster.trainers, shape.trained_parameters * FLOAT
    weights = shape.parameters * shape.bytes_per_weight
    rate = cluster.rate(trainers)
    handed = 2 * shape.parameters * HALF / FOLDER_BYTES_S if cluster.engines_apart else 0.0
    if not cluster.sharded:
        summing = 2 * part_of(gradients, trainers) / rate + 2 * hops(trainers)
        return Exchange(step=summing, weights=handed)
    gathered = part_of(weights, trainers)
    calls = 3 * (shape.layers + 1)
    micro_batch = (2 * gathered + part_of(gradients, trainers)) / rate + calls * hops(trainers)
    return Exchange(micro_batch, weights=gathered / rate + handed)


def engine_pace(device: Device, shape: ModelShape, cluster: Cluster) -> Pace:
    """The pace of an engine whose layers are split over some devices of a node."""
    split = cluster.split
    wide = replace(device, bandwidth=split * device.bandwidth, flops=split * device.flops)
    pace = device_pace(wide, shape)
    if split == 1:
        return pace
    calls = EXCHANGES_PER_LAYER * shape.layers
    token = 2 * calls * part_of(shape.hidden_size * HALF, split) / cluster.rate(split)
    call, step, row, position, prefill, ended = pace.decode
    decode = (call, step + 2 * calls * hops(split), row + token, position, prefill + token, ended)
    return replace(pace, decode=decode)


def dealt(groups: Sequence[Group], shares: int) -> list[list[Group]]:
    """To `shares` engines as many rows each, for what is expected of each is not known yet."""
    return [one for one in cut(groups, shares, lambda prompt, length: 1) if one]


def balanced(groups: Sequence[Group], shares: int) -> list[list[Group]]:
    """To `shares` trainers as many tokens each."""
    return cut(groups, shares, lambda prompt, length: prompt + length)


def cut(groups: Sequence[Group], shares: int, size: Callable[[int, int], int]) -> list[list[Group]]:
    """Neighbours: a row goes to the part in which its middle lies
    (`train.distributed_work.equal_shares`). `size`: of a prompt's and a completion's tokens.
    """
    rows = [
        (place, length, size(one.prompt, length))
        for place, one in enumerate(groups)
        for length in one.lengths
    ]
    made: list[list[tuple[int, int]]] = [[] for _ in range(shares)]
    total, before = sum(weight for _, _, weight in rows), 0
    for place, length, weight in rows:
        made[min(shares * (2 * before + weight) // (2 * total), shares - 1)].append((place, length))
        before += weight
    return [regrouped(groups, part) for part in made]


def regrouped(groups: Sequence[Group], rows: Sequence[tuple[int, int]]) -> list[Group]:
    """Rows, as (group, tokens), in groups again."""
    return [
        replace(groups[place], lengths=tuple(length for _, length in part))
        for place, part in groupby(rows, key=itemgetter(0))
    ]


def split_parts(parts: Mapping[str, int], shape: ModelShape, cluster: Cluster) -> dict[str, int]:
    """The bytes of one device, where `parts` are those of a device that holds everything.

    Of sharded weights a device holds them all, as `whole`, while it samples, saves or sends them.
    """
    made = dict(parts)
    for name in ("weights", "optimizer", "gradients", "save_copy"):  # a reference stays whole
        made[name] = -(-made[name] // cluster.shard)
    made["kv_cache"] //= min(cluster.split, shape.kv_heads)
    if cluster.engines_apart:
        made["weight_copies"] = shape.parameters * HALF // cluster.split
    if cluster.sharded:  # this layer and the next, embedding and head, each with its gradient
        near = 2 * shape.linear_per_layer + shape.head * (1 if shape.tied else 2)
        made["gathered"] = near * (shape.bytes_per_weight + FLOAT)
        made["whole"] = parts["weights"]
    return made


def phases_in(
    parts: Mapping[str, int],
    shape: ModelShape,
    cluster: Cluster,
    *,
    batches: int = 2,
    copies_on_host: bool = False,
) -> dict[str, int]:
    """Bytes at the peak of each phase on the device that has most; `parts` of `split_parts`."""
    if not (cluster.sharded or cluster.engines_apart):
        return phases_of(parts, shape, batches=batches, copies_on_host=copies_on_host)
    held = parts["weights"] + parts["reference"] + parts["optimizer"]
    whole = parts.get("whole", 0)
    passing = parts["activations"] + parts["logits"] + parts.get("gathered", 0)
    head = 0 if shape.lora else 2 * shape.head * FLOAT // cluster.shard
    engine = parts["kv_cache"] + parts["weight_copies"]
    return {
        "rollout": engine if cluster.engines_apart else held + whole + engine,
        "update": held + parts["gradients"] + max(passing, head),
        "save": held + whole + (0 if copies_on_host else parts["save_copy"]),
    }
