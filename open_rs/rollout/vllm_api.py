"""One server of vLLM: what it says of itself, its weights, and completions by token ids.

Beside the routes of every server it needs those for development (VLLM_SERVER_DEV_MODE=1: loading of
weights) and for scale-out (--enable-scale-out: token ids in and out, each completion with the
version of the weights that drew it).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe import VLLMServerEngineSpec
from open_rs.rollout.openai_api import FINISH_REASONS, Connection, Unusable, same_model
from open_rs.rollout.protocol import FinishReason
from open_rs.rollout.vllm_rules import SAMPLED, check_version
from open_rs.rollout.vllm_worker import RENEW, WORKER

DOCS = "docs/engines.md has the commands"


@dataclass(frozen=True)
class Served:
    """A server as it describes itself."""

    version: str
    model: str  # the name that requests have to bear
    source: str  # folder or hub id that it was started with
    context: int
    dtype: str
    logprobs_mode: str
    device: str


@dataclass(frozen=True)
class Drawn:
    """A completion in token ids."""

    ids: list[int]
    logprobs: list[float]
    finish_reason: FinishReason
    weights: frozenset[str]  # versions that drew its tokens


class VLLMServer:
    """The server at `url`. `InputError` where it is not what is needed, `Unusable` where it gave no
    usable answer after all attempts.
    """

    def __init__(self, url: str, spec: VLLMServerEngineSpec) -> None:
        self.url = url.rstrip("/")
        self._connection = Connection(
            self.url,
            api_key_env=spec.api_key_env,
            timeout_s=spec.timeout_s,
            max_retries=spec.max_retries,
        )

    def describe(self) -> Served:
        """What it is; an InputError names what it lacks."""
        where = f"rollout.engine: {self.url}"
        try:
            version = json.loads(self._connection.get("/version"))["version"]
            listed = json.loads(self._connection.get("/v1/models"))["data"][0]
        except Unusable as error:
            raise InputError(f"{where}: no vLLM server answers ({error}); {DOCS}") from None
        except (ValueError, KeyError, IndexError, TypeError):
            raise InputError(f"{where} answers, but is no vLLM server; {DOCS}") from None
        check_version(str(version), where)
        try:
            info = json.loads(self._connection.get("/server_info?config_format=json"))
            config = info["vllm_config"]["model_config"]
            device = info["vllm_config"]["device_config"]["device"]
        except (Unusable, ValueError, KeyError, TypeError):
            raise InputError(
                f"{where} lets nobody load weights; start it with VLLM_SERVER_DEV_MODE=1 in its "
                f"environment ({DOCS})"
            ) from None
        return Served(
            version=str(version),
            model=str(listed["id"]),
            source=str(listed.get("root") or listed["id"]),
            context=int(listed["max_model_len"]),
            dtype=str(config["dtype"]).removeprefix("torch."),
            logprobs_mode=str(config["logprobs_mode"]),
            device=str(device).partition(":")[0],
        )

    def take(self, folder: str, version: str, *, renew_head: bool) -> None:
        """Load the weights of a folder or hub id, forget what the ones before have computed, and
        call them by this name from now on. `renew_head`: see `vllm_worker`.
        """
        load = {"method": "reload_weights", "kwargs": {"weights_path": folder}}
        self._connection.post("/collective_rpc", load)
        if renew_head:
            try:
                self._connection.post("/collective_rpc", {"method": RENEW})
            except Unusable as error:
                raise Unusable(
                    f"on a CPU it needs --worker-extension-cls {WORKER}: {error}"
                ) from None
        forgot = self._connection.post("/reset_prefix_cache")
        if json.loads(forgot).get("success") is not True:
            raise Unusable("it kept keys and values of the weights before")
        self._connection.post("/update_weight_version", {"new_version": version})

    def draw(self, model: str, prompt_ids: Sequence[int], sampling: dict[str, Any]) -> Drawn:
        """One completion."""
        body = {"model": model, "token_ids": list(prompt_ids), "sampling_params": sampling}
        try:
            text = self._connection.post("/inference/v1/generate", body)
        except InputError as error:
            if "scale-out" not in str(error).lower():
                raise
            raise InputError(
                f"rollout.engine: {self.url} takes no token ids; start it with --enable-scale-out "
                f"({DOCS})"
            ) from None
        try:
            return read_drawn(json.loads(text), sampling)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise Unusable(f"its answer cannot be read ({type(error).__name__}: {error})") from None


def read_drawn(answer: Any, sampling: dict[str, Any]) -> Drawn:
    """The completion in an answer of /inference/v1/generate."""
    choice = answer["choices"][0]
    ids = [int(token) for token in choice["token_ids"]]
    told = (choice.get("logprobs") or {}).get("content") or []
    if sampling["logprobs"] is not None and [one["token_id"] for one in told] != ids:
        raise Unusable(f"it tells {len(told)} log-probs for {len(ids)} tokens")
    if len(ids) > sampling["max_tokens"]:
        raise Unusable(f"{len(ids)} tokens, over the limit of {sampling['max_tokens']}")
    if choice["finish_reason"] not in FINISH_REASONS:
        raise Unusable(f"the completion ended by {choice['finish_reason']!r}")
    versions = frozenset(one["version"] for one in choice["weight_versions"] or ())
    logprobs = [float(one["logprob"]) for one in told]
    return Drawn(ids, logprobs, FINISH_REASONS[choice["finish_reason"]], versions)


def check_served(served: Served, url: str, names: Sequence[str], *, training: bool) -> None:
    """Refuse a server of another model, and in training one that tells other log-probs."""
    held = (served.model, served.source)
    if not any(name in held or same_model(name, one) for name in names for one in held):
        raise InputError(
            f'rollout.engine: {url} has loaded "{served.source}", not "{names[0]}"; start it with '
            f'that model, or set served_as = "{served.model}" where it is the same under another '
            "name"
        )
    if training and served.logprobs_mode != SAMPLED:
        raise InputError(
            f"rollout.engine: {url} tells log-probs as {served.logprobs_mode}; start it with "
            f"--logprobs-mode {SAMPLED}"
        )
