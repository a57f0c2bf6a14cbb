"""What vLLM's workers on a CPU have to do beside loading weights (`--worker-extension-cls`).

vLLM 0.32 multiplies with a packed copy of the LM head on a CPU. Where the head is tied to the
embeddings, loading new weights renews the embeddings and leaves that copy as it was, in silence.
"""

from importlib import import_module
from typing import Any

WORKER = "open_rs.rollout.vllm_worker.TiedHead"
RENEW = "renew_tied_head"


class TiedHead:
    """Mixed into vLLM's worker."""

    def renew_tied_head(self: Any) -> None:
        """Pack the head from the embeddings as they are now."""
        layers = import_module("vllm.model_executor.layers.utils")
        layers.dispatch_cpu_unquantized_gemm(self.get_model().lm_head, remove_weight=False)


def has_tied_head(model: Any) -> bool:
    """Whether a causal LM of transformers reads logits by its embeddings."""
    return bool(model.config.get_text_config(decoder=True).tie_word_embeddings)
