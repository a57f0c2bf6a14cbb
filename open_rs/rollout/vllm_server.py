"""The engine of vLLM's own servers, on other devices or machines, which are handed new weights.

One request per completion, by token ids, each with a seed of its own, to the server that has the
fewest under way. Weights go through a file that the servers see. They have a name, which comes back
with every completion, so that a server that was started anew is found out.
"""

import os
import time
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import torch
from safetensors.torch import save_file

from open_rs.errors import EngineStop, InputError
from open_rs.models import generation_facts, model_path
from open_rs.recipe import ModelRecipe, VLLMServerEngineSpec
from open_rs.rollout.asking import answers
from open_rs.rollout.fit import Fit, check_params, check_prompts
from open_rs.rollout.groups import gather, wanted_samples
from open_rs.rollout.openai_api import Unusable, request_seed
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup, SamplingParams
from open_rs.rollout.stops import StopStrings, ending_tokens
from open_rs.rollout.vllm_api import Drawn, VLLMServer, check_served
from open_rs.rollout.vllm_rules import plain_weights, sampling_settings, tells_logprobs
from open_rs.rollout.vllm_worker import has_tied_head

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Job:
    """One completion that is asked for."""

    index: int  # of the prompt
    sample: int
    seed: int


class VLLMServerEngine:
    """Samples from the servers of `spec`, all with the weights that were handed to them last.

    In training these are those of the module given to `load_weights`; else those of `model`.
    """

    name = "vllm_server"

    def __init__(
        self, spec: VLLMServerEngineSpec, model: ModelRecipe, tokenizer: Any, *, training: bool
    ) -> None:
        """An InputError names a server that does not answer, or is not what is needed."""
        check_folder(spec.weights_folder)
        self.spec, self.tokenizer = spec, tokenizer
        self.stats: EngineStats | None = None
        self.servers = [VLLMServer(url, spec) for url in spec.urls]
        self.served = [server.describe() for server in self.servers]
        path = model_path(model.path)
        names = [spec.served_as] if spec.served_as else [model.path, path]
        for server, served in zip(self.servers, self.served, strict=True):
            check_served(served, server.url, names, training=training)
        named, vocabulary, tied = generation_facts(model)
        context = min(served.context for served in self.served)
        self.fit = Fit(context, {}, vocabulary, keeps_logits=False)
        self.eos_token_ids = ending_tokens(named, tokenizer)
        self._folder = TemporaryDirectory(prefix="open-rs-weights-", dir=spec.weights_folder)
        self._name, self._count = f"open-rs-{uuid4().hex[:12]}", 0
        if not training:
            folder = os.path.abspath(path) if Path(path).is_dir() else path
            self._hand_over(folder, tied=tied)

    @property
    def harness(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "engine_version": sorted({served.version for served in self.served}),
            "dtype": self.served[0].dtype,
            "device": "server",
        }

    @property
    def version(self) -> str:
        """The name of the weights that the servers should have."""
        return f"{self._name}-{self._count}"

    def load_weights(self, model: Any) -> None:
        """Hand the weights of `model`, adapters added in, to every server; `EngineStop` where one
        does not take them.
        """
        dtype = getattr(torch, self.served[0].dtype)
        tensors = {
            name: tensor.to("cpu", dtype).contiguous() for name, tensor in plain_weights(model)
        }
        final = Path(self._folder.name) / WEIGHTS
        unfinished = final.with_suffix(".tmp")
        save_file(tensors, unfinished, metadata={"format": "pt"})
        unfinished.replace(final)
        self._hand_over(self._folder.name, tied=has_tied_head(model))

    def _hand_over(self, folder: str, *, tied: bool) -> None:
        self._count += 1
        with ThreadPoolExecutor(len(self.servers)) as pool:
            pushes = [
                pool.submit(
                    server.take, folder, self.version, renew_head=tied and served.device == "cpu"
                )
                for server, served in zip(self.servers, self.served, strict=True)
            ]
        for server, push in zip(self.servers, pushes, strict=True):
            if isinstance(error := push.exception(), Unusable):
                raise EngineStop(
                    f"rollout.engine: {server.url} does not take the weights of {folder} ({error})"
                )
            push.result()

    def generate(
        self,
        prompts: Sequence[Prompt],
        *,
        group_size: int,
        params: SamplingParams,
        seed: int,
        step: int = 0,
        on_finished: Callable[[Prompt, Rollout], None] | None = None,
        skip: Container[tuple[str, int]] = (),
        keep: bool = True,
    ) -> list[RolloutGroup]:
        """Draw `group_size` completions for each prompt; `on_finished` is called as each ends.

        A request that has no answer after all attempts ends it by `EngineStop`.
        """
        check_params(group_size, params)
        check_prompts(prompts, params, self.fit)
        started = time.perf_counter()
        wanted = (
            Job(index, sample, request_seed(seed, step, prompts[index].problem.id, sample))
            for index, sample in wanted_samples(prompts, group_size, skip)
        )
        ended = self._rollouts(prompts, wanted, params)
        groups, tokens = gather(prompts, ended, on_finished=on_finished, keep=keep)
        read = sum(len(prompt.prompt_ids) for prompt in prompts)
        self.stats = EngineStats(read, tokens, time.perf_counter() - started)
        return groups

    def _rollouts(
        self, prompts: Sequence[Prompt], wanted: Iterator[Job], params: SamplingParams
    ) -> Generator[tuple[int, Rollout]]:
        """(prompt index, rollout) as they end."""
        stops = (
            StopStrings(self.tokenizer, params.stop, self.fit.vocab_size) if params.stop else None
        )

        def ask(job: Job, place: int) -> Drawn:
            served = self.served[place]
            sampling = sampling_settings(
                params,
                seed=job.seed,
                eos_token_ids=self.eos_token_ids,
                logprobs=tells_logprobs(served.logprobs_mode, params),
            )
            return self.servers[place].draw(served.model, prompts[job.index].prompt_ids, sampling)

        asked = answers(wanted, ask, at_once=self.spec.max_concurrency, places=len(self.servers))
        with closing(asked) as drawn:
            for job, place, outcome in drawn:
                url = self.servers[place].url
                if isinstance(outcome, Unusable):
                    raise EngineStop(f"rollout.engine: {url}: {outcome}")
                if isinstance(outcome, BaseException):
                    raise outcome
                if outcome.weights - {self.version}:
                    raise EngineStop(
                        f"rollout.engine: {url} drew from other weights ({min(outcome.weights)}) "
                        "than those handed to it: it was started anew, or somebody else uses it"
                    )
                text = self.tokenizer.decode(outcome.ids, skip_special_tokens=True)
                text = text if stops is None else stops.cut(text)
                yield (
                    job.index,
                    Rollout(outcome.ids, outcome.logprobs, text, outcome.finish_reason, job.sample),
                )


def check_folder(folder: str | None) -> None:
    """Refuse a folder for weights that is not there."""
    if folder is not None and not Path(folder).is_dir():
        raise InputError(
            f"rollout.engine.weights_folder = {folder!r}: no such folder; make it, where the "
            "servers see it under the same name"
        )
