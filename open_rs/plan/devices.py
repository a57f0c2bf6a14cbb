"""Devices that may not be here: what their makers state, what an hour costs, what we expect to get.

Memory, bandwidth and dense bfloat16 rates are those of the makers' data sheets; prices are dated.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from open_rs.errors import InputError

# What a program gets of the stated rates. None of these was measured with open-rs, which is why a
# forecast from them has the wide range SPREAD.
TRAIN_EFFICIENCY = 0.30  # of the peak rate, forward and backward of 1.5B models (MFU)
PREFILL_EFFICIENCY = 0.40  # of the peak rate
DECODE_EFFICIENCY = 0.60  # of the bandwidth, reading weights and cache
LAUNCH_S = 90e-6  # per layer and decoding step: some twelve kernels that are too small to fill it
SPREAD = 1.6  # true times are expected within the forecast over and times this
LINK_EFFICIENCY = 0.7  # of what a link is stated to carry, in the exchanges of all devices
FOLDER_BYTES_S = 1e9  # of a folder that trainers and servers see: written, and read by all at once
HOP_S = 10e-6  # for each doubling of the devices that exchange something
PER_NODE = 8  # devices of a node
PCIE4 = 32e9  # 16 lanes, one way; cards without NVLink talk over these
NODE_100G = 12.5e9 / PER_NODE  # a network of 100 Gb/s a node, shared by its devices


@dataclass(frozen=True)
class Price:
    """An hour of one device on demand."""

    usd_per_hour: float
    date: str
    source: str


@dataclass(frozen=True)
class Device:
    """One accelerator: `memory` and `bandwidth` in bytes (a second), `flops` a second. Bytes a
    second that it sends while it receives as many: `link` to others of its node, `fabric` to other
    nodes.
    """

    name: str
    memory: float
    bandwidth: float
    flops: float  # bfloat16, dense, sums in float32
    source: str
    price: Price | None = None
    link: float = PCIE4
    fabric: float = NODE_100G


PAPER = "arXiv 2503.16219, tables 2 and 3: dollars over device hours"
MARKET = "deploybase.ai, page on L40S prices: RunPod on demand"
GIB = 2**30
RUNPOD = "2026-03", MARKET
A40, A100 = Price(0.44, "2025-03", PAPER), Price(1.89, "2025-03", PAPER)
SHEET = "NVIDIA data sheet"
# NVLink, one way, and an adapter for each device (DGX A100: 200 Gb/s, DGX H100 and H200: 400 Gb/s)
DGX_A100, DGX_H100 = (300e9, 25e9), (450e9, 50e9)
DEVICES: Mapping[str, Device] = {
    one.name: one
    for one in (
        Device("A40", 48 * GIB, 696e9, 149.7e12, SHEET, A40),
        Device("A100", 80 * GIB, 2039e9, 312e12, f"{SHEET}, 80GB SXM", A100, *DGX_A100),
        Device("A100-40GB", 40 * GIB, 1555e9, 312e12, f"{SHEET}, 40GB SXM", A100, *DGX_A100),
        Device("L40S", 48 * GIB, 864e9, 362e12, SHEET, Price(0.79, *RUNPOD)),
        Device("H100", 80 * GIB, 3350e9, 989e12, f"{SHEET}, SXM", Price(1.99, *RUNPOD), *DGX_H100),
        Device("H200", 141e9, 4800e9, 989e12, f"{SHEET}, SXM", None, *DGX_H100),
        Device("4090", 24 * GIB, 1008e9, 165.2e12, "NVIDIA Ada paper", Price(0.34, *RUNPOD)),
        Device("3090", 24 * GIB, 936e9, 71e12, "NVIDIA Ampere GA102 paper"),
        Device("A6000", 48 * GIB, 768e9, 154.8e12, SHEET),
        Device("A10", 24 * GIB, 600e9, 125e12, SHEET),
        Device("L4", 24 * GIB, 300e9, 121e12, SHEET),
    )
}
PRICES: Mapping[str, Price] = {one.name: one.price for one in DEVICES.values() if one.price}


def find_device(name: str) -> Device | None:
    """The table's device in a name such as "NVIDIA A100-SXM4-80GB"; None where it has none."""
    words = {word.upper() for word in re.split(r"[^A-Za-z0-9]+", name)}
    if {"A100", "40GB"} <= words:
        return DEVICES["A100-40GB"]
    return next((one for key, one in DEVICES.items() if key.upper() in words), None)


def named_device(name: str) -> Device:
    """The device that a person names."""
    found = find_device(name)
    if found is None:
        raise InputError(
            f"--device {name!r}: not in the table; those that are: {', '.join(DEVICES)}"
        )
    return found


def price_of(device_name: str) -> Price | None:
    """The table's price of a device such as "NVIDIA A100-SXM4-80GB"; None where it has none."""
    found = find_device(device_name)
    return None if found is None else found.price
