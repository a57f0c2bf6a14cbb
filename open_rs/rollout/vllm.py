"""The engine of vLLM in this process, for evaluation and curation.

One request per completion, each with a seed of its own: what a sample draws does not depend on what
else was asked for, up to the rounding that the shape of a batch makes. The prompt's token ids are
those of training, and text is decoded from the completion's ids as by the native engine.
"""

import os
import time
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from importlib import import_module
from typing import Any

from open_rs.errors import InputError
from open_rs.interrupt import poll
from open_rs.models import model_path, pick_device, pick_dtype
from open_rs.recipe import ModelRecipe, VLLMEngineSpec
from open_rs.rollout.fit import Fit, check_params, check_prompts
from open_rs.rollout.groups import gather, wanted_samples
from open_rs.rollout.openai_api import request_seed
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup, SamplingParams
from open_rs.rollout.stops import StopStrings, ending_tokens

CPU_DEFAULTS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"}


class VLLMEngine:
    """Samples from the folder or hub id of `model` by vLLM's scheduler, `max_slots` rows at a time.

    vLLM tells log-probs either before the temperature or after top-k and top-p. They are those of
    the protocol at temperature 1 alone; at others `engine_logprobs` stays empty.
    """

    name = "vllm"

    def __init__(
        self, spec: VLLMEngineSpec, model: ModelRecipe, tokenizer: Any, *, max_slots: int = 64
    ) -> None:
        """An InputError says that vLLM is missing, or refuses the model."""
        device = pick_device(model)
        self.device, self.dtype = device.type, str(pick_dtype(model, device)).split(".")[-1]
        self.vllm = import_vllm(self.device)
        self.tokenizer, self.max_slots = tokenizer, max_slots
        self.stats: EngineStats | None = None
        try:
            self.llm = self.vllm.LLM(
                model=str(model_path(model.path)),
                revision=model.revision,
                trust_remote_code=model.trust_remote_code,
                dtype=self.dtype,
                max_num_seqs=max_slots,
                generation_config="vllm",  # nothing but the recipe decides how it samples
                logprobs_mode="raw_logprobs",
                **spec.model_dump(exclude={"type"}, exclude_none=True),
            )
        except (ValueError, RuntimeError, OSError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"model.path {model.path}: vLLM {self.vllm.__version__} refuses it ({first}); "
                'use another model, or rollout.engine.type = "native"'
            ) from error
        config = self.llm.llm_engine.model_config
        self.fit = Fit(config.max_model_len, {}, config.get_vocab_size(), keeps_logits=False)
        named = (config.try_get_generation_config() or {}).get("eos_token_id")
        if named is None:
            named = getattr(config.hf_text_config, "eos_token_id", None)
        self.eos_token_ids = ending_tokens(named, tokenizer)

    @property
    def harness(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "engine_version": self.vllm.__version__,
            "dtype": self.dtype,
            "device": self.device,
        }

    def load_weights(self, model: Any) -> None:
        raise InputError('rollout.engine: vLLM cannot be trained with; set type = "native"')

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
        """Draw `group_size` completions for each prompt; `on_finished` is called as each ends."""
        check_params(group_size, params)
        check_prompts(prompts, params, self.fit)
        started = time.perf_counter()
        wanted = wanted_samples(prompts, group_size, skip)
        ended = self._rollouts(prompts, wanted, params, seed, step)
        groups, tokens = gather(prompts, ended, on_finished=on_finished, keep=keep)
        read = sum(len(prompt.prompt_ids) for prompt in prompts)
        self.stats = EngineStats(read, tokens, time.perf_counter() - started)
        return groups

    def _rollouts(
        self,
        prompts: Sequence[Prompt],
        wanted: Iterator[tuple[int, int]],
        params: SamplingParams,
        seed: int,
        step: int,
    ) -> Generator[tuple[int, Rollout]]:
        """(prompt index, rollout) as they end. vLLM always has twice its slots to choose from."""
        engine, under_way = self.llm.llm_engine, dict[str, tuple[int, int]]()
        stops = (
            StopStrings(self.tokenizer, params.stop, self.fit.vocab_size) if params.stop else None
        )
        try:
            while True:
                while len(under_way) < 2 * self.max_slots and (job := next(wanted, None)):
                    index, sample = job
                    own_seed = request_seed(seed, step, prompts[index].problem.id, sample)
                    request = {"prompt_token_ids": list(prompts[index].prompt_ids)}
                    key = f"{index}-{sample}"
                    engine.add_request(key, request, self._sampling(params, own_seed))
                    under_way[key] = job
                if not under_way:
                    return
                poll()
                for output in engine.step():
                    if output.finished:
                        index, sample = under_way.pop(output.request_id)
                        yield index, self._rollout(output.outputs[0], sample, stops)
        finally:
            if under_way:
                engine.abort_request(list(under_way))

    def _sampling(self, params: SamplingParams, seed: int) -> Any:
        return self.vllm.SamplingParams(
            max_tokens=params.max_completion_tokens,
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,  # 0: off, as here
            stop=list(params.stop),
            stop_token_ids=self.eos_token_ids,
            seed=seed,
            logprobs=0 if params.temperature == 1 else None,
            detokenize=bool(params.stop),
        )

    def _rollout(self, ended: Any, sample: int, stops: StopStrings | None) -> Rollout:
        ids = list(ended.token_ids)
        if ended.finish_reason not in ("stop", "length"):
            why = f"vLLM ended the completion by {ended.finish_reason!r}"
            return Rollout([], [], "", "error", sample, counted_tokens=len(ids), error=why)
        told = zip(ids, ended.logprobs or (), strict=False)
        logprobs = [one[token].logprob for token, one in told]
        text = self.tokenizer.decode(ids, skip_special_tokens=True)
        text = text if stops is None else stops.cut(text)
        return Rollout(ids, logprobs, text, ended.finish_reason, sample)


def import_vllm(device: str) -> Any:
    """The package; on a CPU unset variables of its environment get defaults that start fast."""
    if device == "cpu":
        for name, value in CPU_DEFAULTS.items():
            os.environ.setdefault(name, value)
    try:
        return import_module("vllm")
    except ImportError:
        raise InputError(
            'rollout.engine: type = "vllm" needs the vllm package; pip install "open-rs[vllm]" '
            "(0.32 was tried), or on a CPU make vllm-env"
        ) from None
