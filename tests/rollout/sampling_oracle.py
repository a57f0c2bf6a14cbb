"""Sampling again, from the definitions, in plain Python and float64 numpy, to compare the engine's
tensors with. Shares no code with the package.
"""

import hashlib

import numpy as np
import torch

WORD = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox-4x32-10 with Python's integers, as in the paper (Salmon et al. 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & WORD, (p0 >> 32) ^ c3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return c0, c1, c2, c3


def uniform(seed: int, step: int, problem_id: str, sample: int, position: int) -> float:
    """The uniform that picks one token."""
    digest = hashlib.sha256(f"{seed}\0{step}\0{problem_id}".encode()).digest()
    key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
    return (philox((position, sample, 0, 0), key)[0] + 0.5) / 2**32


def probabilities(
    logits: np.ndarray, temperature: float, top_k: int = 0, top_p: float = 1.0
) -> np.ndarray:
    """The distribution [V] that is sampled from."""
    scores = logits.astype(np.float64) / temperature
    weights = np.exp(scores - scores.max())
    if top_k:
        weights[weights < np.sort(weights)[-top_k:][0]] = 0.0
    weights /= weights.sum()
    order = sorted(range(len(weights)), key=lambda token: -weights[token])
    reached = 0.0
    for token in order:
        if reached >= top_p:
            weights[token] = 0.0
        reached += weights[token]
    return weights / weights.sum()


def interval(distribution: np.ndarray, token: int) -> tuple[float, float]:
    """The uniforms that pick `token`: [sum before it, sum up to it)."""
    return distribution[:token].sum(), distribution[: token + 1].sum()


def full_logits(model: torch.nn.Module, prompt_ids: list[int], ids: list[int]) -> np.ndarray:
    """Logits [T, V] from which each completion token was drawn, by one plain forward."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt_ids + ids])).logits[0]
    return logits[len(prompt_ids) - 1 : -1].double().numpy()
