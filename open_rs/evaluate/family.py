"""Several comparisons at once: what may be said of all of them together."""

import numpy as np
from numpy.typing import NDArray

METHOD = "Holm: the chance of any false verdict in the family is at most"


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's step-down p-values [m] (Holm 1979): with p_(1) <= ... <= p_(m), the i-th is

        max over j <= i of min(1, (m - j + 1) p_(j))

    Where each is below alpha the hypothesis is refused; the chance of refusing any true one is at
    most alpha, whatever the dependence between the comparisons. A max-T test by sign flips would
    gain power from that dependence, but candidates that share a base are not exchanged with it by
    flipping signs, so its level would hold only for large n.
    """
    order = np.argsort(p_values, kind="stable")
    count = len(p_values)
    stepped = np.maximum.accumulate((count - np.arange(count)) * p_values[order])
    adjusted = np.empty(count)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted
