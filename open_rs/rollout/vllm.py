"""The engine of vLLM in this process, on the device of the model.

One request per completion, each with a seed of its own: what a sample draws does not depend on what
else was asked for, up to the rounding that the shape of a batch makes. The prompt's token ids are
those of training, and text is decoded from the completion's ids as by the native engine. In
training it is handed new weights as tensors, and on a GPU sleeps while the trainer works.
"""

import os
import time
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from importlib import import_module
from typing import Any

from open_rs.errors import EngineStop, InputError
from open_rs.interrupt import poll
from open_rs.models import model_path, pick_device, pick_dtype
from open_rs.recipe import ModelRecipe, VLLMEngineSpec
from open_rs.rollout.fit import Fit, check_params, check_prompts
from open_rs.rollout.groups import gather, wanted_samples
from open_rs.rollout.openai_api import request_seed
from open_rs.rollout.protocol import EngineStats, Prompt, Rollout, RolloutGroup, SamplingParams
from open_rs.rollout.stops import StopStrings, ending_tokens
from open_rs.rollout.vllm_rules import (
    BEFORE_TEMPERATURE,
    check_version,
    installed_version,
    plain_weights,
    sampling_settings,
    tells_logprobs,
)
from open_rs.rollout.vllm_worker import RENEW, WORKER, has_tied_head
from open_rs.text import brief

OWN_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"  # "0": vLLM works in this process
CPU_DEFAULTS = {OWN_PROCESS: "0", "VLLM_CPU_KVCACHE_SPACE": "1"}


class VLLMEngine:
    """Samples by vLLM's scheduler, `max_slots` rows at a time, from the folder or hub id of `model`
    or, in training, from the weights that were loaded last.

    `engine_logprobs` are filled where what vLLM tells in `logprobs_mode` is what the protocol wants
    (`vllm_rules.tells_logprobs`), and stay empty elsewhere.
    """

    name = "vllm"

    def __init__(
        self,
        spec: VLLMEngineSpec,
        model: ModelRecipe,
        tokenizer: Any,
        *,
        max_slots: int = 64,
        logprobs_mode: str = BEFORE_TEMPERATURE,
        training: bool = False,
    ) -> None:
        """An InputError says that vLLM is missing, or refuses the model."""
        device = pick_device(model)
        self.device, self.dtype = device.type, str(pick_dtype(model, device)).split(".")[-1]
        if training:
            check_one_process(spec)
        self.vllm = import_vllm(self.device)
        self.tokenizer, self.max_slots = tokenizer, max_slots
        self.logprobs_mode = logprobs_mode
        self.can_sleep = training and self.device == "cuda"  # elsewhere vLLM has no sleep mode
        self.asleep = False
        self.stats: EngineStats | None = None
        try:
            self.llm = self.vllm.LLM(
                model=str(model_path(model.path)),
                revision=model.revision,
                trust_remote_code=model.trust_remote_code,
                dtype=self.dtype,
                max_num_seqs=max_slots,
                generation_config="vllm",  # nothing but the recipe decides how it samples
                logprobs_mode=logprobs_mode,
                enable_sleep_mode=self.can_sleep,
                worker_extension_cls=WORKER,
                **spec.model_dump(exclude={"type", "sync_tolerance"}, exclude_none=True),
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
        """Sample from the weights that `model` has now, adapters added in.

        Loading goes through vLLM's own reader of checkpoints, since it lays weights out anew. An
        attempt that fails leaves the model half loaded, so `EngineStop` is the end of this engine.
        """
        self._wake("weights")
        try:
            self.llm.collective_rpc(
                "reload_weights", kwargs={"weights_iterator": list(plain_weights(model))}
            )
        except Exception as error:  # whatever vLLM raises, its weights cannot be relied on
            reason = brief(error)
            raise EngineStop(f"rollout.engine: vLLM does not take the weights ({reason})") from None
        if self.device == "cpu" and has_tied_head(model):
            self.llm.collective_rpc(RENEW)
        self._wake("kv_cache")
        if not self.llm.reset_prefix_cache():
            raise EngineStop("rollout.engine: vLLM kept keys and values of the weights before")
        self.asleep = False

    def rest(self) -> None:
        """Give the device's memory back until the next `load_weights`, where vLLM can."""
        if self.can_sleep and not self.asleep:
            self.llm.sleep(level=2)  # weights are dropped: new ones come
            self.asleep = True

    def _wake(self, part: str) -> None:
        if self.asleep:
            self.llm.wake_up(tags=[part])

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
        if self.asleep:
            raise RuntimeError("vLLM sleeps; load_weights wakes it")
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
        told = tells_logprobs(self.logprobs_mode, params)
        return self.vllm.SamplingParams(
            **sampling_settings(params, seed=seed, eos_token_ids=self.eos_token_ids, logprobs=told)
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


def check_one_process(spec: VLLMEngineSpec) -> None:
    """In training tensors are handed over, which needs vLLM in this very process."""
    if spec.tensor_parallel_size > 1:
        raise InputError(
            f"rollout.engine.tensor_parallel_size = {spec.tensor_parallel_size}: in training vLLM "
            'works in one process; set 1, or use type = "vllm_server"'
        )
    if os.environ.setdefault(OWN_PROCESS, "0") != "0":
        raise InputError(
            f"{OWN_PROCESS} = {os.environ[OWN_PROCESS]}: in training vLLM works in this process; "
            'unset it, or use rollout.engine.type = "vllm_server"'
        )


def import_vllm(device: str) -> Any:
    """The package; on a CPU unset variables of its environment get defaults that start fast."""
    if device == "cpu":
        for name, value in CPU_DEFAULTS.items():
            os.environ.setdefault(name, value)
    have = installed_version()
    if have is not None:  # another than was tried may not even import
        check_version(have, "rollout.engine")
    try:
        vllm = import_module("vllm")
    except ImportError as error:
        if have is not None:
            raise InputError(
                f"rollout.engine: vLLM {have} is installed and cannot be imported "
                f'({brief(error)}); mend it, or use type = "native"'
            ) from None
        raise InputError(
            'rollout.engine: type = "vllm" needs the vllm package; pip install "open-rs[vllm]", or '
            "on a CPU make vllm-env"
        ) from None
    check_version(vllm.__version__, "rollout.engine")
    return vllm
