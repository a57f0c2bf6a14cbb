"""A stand-in for vLLM's server: the routes that are asked, over the native engine.

It samples from the weights that were loaded into it, by noise that follows the request's seed
alone. What goes wrong is said by `fault` (all requests of a path) and `stale`, `garbled`.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import torch
from loopback import Reply, Request, ScriptedServer, scripted_server
from safetensors.torch import load_file

from open_rs.models import load_model, load_tokenizer
from open_rs.problems import Problem
from open_rs.recipe import ModelRecipe
from open_rs.rollout.native import NativeEngine
from open_rs.rollout.protocol import Prompt, SamplingParams

TINY = ModelRecipe(path="tiny", device="cpu", dtype="float32")


@cache
def loaded() -> tuple[Any, Any]:
    """In the test's thread: transformers does not load in two at a time."""
    return load_model(TINY), load_tokenizer(TINY)


class FakeVLLM:
    def __init__(self, name: str = "tiny", root: str = "/models/tiny") -> None:
        self.name, self.root = name, root
        self.release, self.logprobs_mode = "0.32.0", "processed_logprobs"
        self.dtype = "float32"  # that it claims and takes weights in; it samples in float32
        self.fault: dict[str, Reply | list[Reply]] = {}  # by path: always, or one after the other
        self.stale = self.garbled = False
        self.dies_after: int | None = None  # completions
        self.loads: list[str] = []
        self.renewed = 0
        self.url, self.most_at_once = "", lambda: 0
        self.before_draw: Callable[[], object] = lambda: None
        self.requests: list[Request] = []
        self._lock = threading.Lock()
        self.start()

    def start(self) -> None:
        """As if it was started anew: the weights of its own model."""
        self.version, self.drawn, self.dies_after = "default", 0, None
        model, tokenizer = loaded()
        self.engine = NativeEngine(deepcopy(model), tokenizer)

    def __call__(self, request: Request, before: int) -> Reply:
        path = request.path.partition("?")[0]
        if path == "/inference/v1/generate":
            self.before_draw()
        with self._lock:
            self.requests.append(request)
            fault = self.fault.get(path)
            if isinstance(fault, list):
                fault = fault.pop(0) if fault else None
            if self.dies_after is not None and self.drawn >= self.dies_after:
                return Reply(cut=True)
            return fault or Reply(json.dumps(self.answer(path, request.body)))

    def answer(self, path: str, body: dict) -> dict:
        match path:
            case "/version":
                return {"version": self.release}
            case "/v1/models":
                return {"data": [{"id": self.name, "root": self.root, "max_model_len": 256}]}
            case "/server_info":
                model = {"dtype": f"torch.{self.dtype}", "logprobs_mode": self.logprobs_mode}
                device = {"device": "cpu"}
                return {"vllm_config": {"model_config": model, "device_config": device}}
            case "/collective_rpc":
                if body["method"] == "reload_weights":
                    self.load(body["kwargs"]["weights_path"])
                else:
                    assert body["method"] == "renew_tied_head"
                    self.renewed += 1
                return {"results": [None]}
            case "/reset_prefix_cache":
                return {"success": True}
            case "/update_weight_version":
                self.version = body["new_version"]
                return {"success": True}
            case "/inference/v1/generate":
                assert body["model"] == self.name
                return self.draw(body["token_ids"], body["sampling_params"])
        raise AssertionError(path)

    def load(self, folder: str) -> None:
        self.loads.append(folder)
        if self.stale and len(self.loads) > 1:
            return
        held = load_file(Path(folder) / "model.safetensors")
        model = self.engine.model
        missing, unknown = model.load_state_dict(held, strict=False)
        assert not unknown and set(missing) <= {"lm_head.weight"}
        if self.garbled:
            torch.manual_seed(len(self.loads))
            with torch.no_grad():
                model.model.norm.weight.mul_(1 + torch.rand_like(model.model.norm.weight))

    def draw(self, ids: list[int], sampling: dict) -> dict:
        assert sampling["stop_token_ids"] == self.engine.eos_token_ids
        self.drawn += 1
        params = SamplingParams(sampling["max_tokens"], temperature=sampling["temperature"])
        prompt = Prompt(Problem("one", "?", "!"), ids)
        [group] = self.engine.generate([prompt], group_size=1, params=params, seed=sampling["seed"])
        [rollout] = group.rollouts
        told = [
            {"token_id": token, "logprob": logprob}
            for token, logprob in zip(rollout.completion_ids, rollout.engine_logprobs, strict=True)
        ]
        choice = {
            "index": 0,
            "finish_reason": rollout.finish_reason,
            "token_ids": rollout.completion_ids,
            "logprobs": None if sampling["logprobs"] is None else {"content": told},
            "weight_versions": [{"version": self.version, "start": 0, "end": len(told)}],
        }
        return {"choices": [choice]}


@contextmanager
def serve_fake(fake: FakeVLLM) -> Iterator[ScriptedServer]:
    with scripted_server(fake) as server:
        fake.url = server.base_url.removesuffix("/v1")
        fake.most_at_once = lambda: server.most_at_once
        yield server
