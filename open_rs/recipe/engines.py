"""What draws completions: the engines and their settings."""

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from open_rs.recipe.section import Section

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NativeEngineSpec(Section):
    """The embedded engine: samples from the recipe's model in this process."""

    type: Literal["native"] = "native"
    copies_weights: ClassVar[bool] = False  # it samples from the very module that is trained
    is_apart: ClassVar[bool] = False

    def shaping(self) -> dict[str, Any]:
        """The settings that can change a completion."""
        return {"type": self.type}


class OpenAIEngineSpec(Section):
    """A server that speaks the protocol of OpenAI's API: vLLM, llama.cpp, a provider."""

    type: Literal["openai"] = "openai"
    copies_weights: ClassVar[bool] = False  # it cannot be trained
    is_apart: ClassVar[bool] = True
    base_url: str = Field(description='address of the API, as in "http://localhost:8000/v1"')
    model: str = Field(min_length=1, description="the model's name at the server")
    served_as: str | None = Field(
        None, description="the name that the server's answers bear, where it is another one"
    )
    api_key_env: str = Field(
        "OPENAI_API_KEY", description="the environment variable that holds the key, if one is asked"
    )
    mode: Literal["auto", "chat", "completions"] = Field(
        "auto",
        description="chat: messages, the server's template. completions: the prompt as text by the "
        "tokenizer of model.path, as in training. auto: completions where model.path is this "
        "model's name, else chat",
    )
    opens_think: bool = Field(
        False, description="chat: the server's template itself opens <think>, and answers go on"
    )
    max_concurrency: int = Field(8, ge=1, le=1024, description="requests under way at a time")
    requests_per_minute: float | None = Field(
        None, gt=0, description="requests sent per minute at most, retries included"
    )
    timeout_s: float = Field(600.0, gt=0, description="longest wait for one answer")
    max_retries: int = Field(
        5, ge=0, description="further attempts after a refused or broken request, with back-off"
    )
    max_undecided: float = Field(
        0.1, ge=0, le=1, description="share of requests without a usable answer at which it stops"
    )
    usd_per_million_prompt_tokens: float | None = Field(None, ge=0, description="price")
    usd_per_million_completion_tokens: float | None = Field(None, ge=0, description="price")
    max_usd: float | None = Field(
        None, gt=0, description="nothing is asked that could bring the cost above this"
    )
    send_seed: bool = Field(
        True, description="send a seed with each request; false for servers that refuse it"
    )
    token_limit: Literal["max_completion_tokens", "max_tokens"] = Field(
        "max_completion_tokens", description="chat: what the server calls the limit of tokens"
    )
    logprobs: bool = Field(False, description="ask for the log-probs of the sampled tokens")
    extra_body: dict[str, Any] = Field(
        default_factory=dict,
        description="further fields of each request, as in { top_k = -1, repetition_penalty = 1 }",
    )

    @model_validator(mode="after")
    def usable(self) -> Self:
        check_address(self.base_url, "base_url", "api_key_env")
        check_environment_name(self.api_key_env)
        if self.max_usd is not None and None in self.prices:
            raise ValueError(
                "max_usd needs usd_per_million_prompt_tokens and usd_per_million_completion_tokens"
            )
        return self

    @property
    def prices(self) -> tuple[float | None, float | None]:
        """Dollars per million (prompt tokens, completion tokens)."""
        return self.usd_per_million_prompt_tokens, self.usd_per_million_completion_tokens

    def resolved(self, model_path: str) -> Self:
        """With the mode that "auto" stands for where the recipe's model is `model_path`."""
        if self.mode != "auto":
            return self
        return self.model_copy(
            update={"mode": "completions" if model_path == self.model else "chat"}
        )

    def shaping(self) -> dict[str, Any]:
        """The settings that can change a completion. Not the address: a server that is started
        again elsewhere serves the same model.
        """
        keys = ("type", "model", "mode", "opens_think", "send_seed", "extra_body")
        return {key: getattr(self, key) for key in keys}


class VLLMEngineSpec(Section):
    """vLLM in this process, on the device of the model."""

    type: Literal["vllm"] = "vllm"
    copies_weights: ClassVar[bool] = True  # which are brought up to date after each update
    is_apart: ClassVar[bool] = False
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of the GPU's memory that it may take"
    )
    max_model_len: int | None = Field(
        None, ge=2, description="prompt and completion together; unset: the model's context"
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs over which a layer is split")
    enforce_eager: bool = Field(False, description="no compilation and no CUDA graphs")
    sync_tolerance: float | None = Field(
        None, gt=0, description="training: as of the engine vllm_server"
    )

    def shaping(self) -> dict[str, Any]:
        """The settings that can change a completion."""
        return {"type": self.type}


class VLLMServerEngineSpec(Section):
    """vLLM's own servers, on other devices or machines; training hands them its weights."""

    type: Literal["vllm_server"] = "vllm_server"
    copies_weights: ClassVar[bool] = True
    is_apart: ClassVar[bool] = True  # it can draw while the trainer learns
    urls: tuple[str, ...] = Field(
        min_length=1, description='addresses, as in ["http://localhost:8000"]; they share the work'
    )
    served_as: str | None = Field(
        None, description="the model's name at the servers, where it is not model.path"
    )
    weights_folder: str | None = Field(
        None,
        description="a folder that the servers see under the same name, through which weights are "
        "handed over; unset: a temporary one, for servers on this machine",
    )
    api_key_env: str = Field(
        "VLLM_API_KEY", description="the environment variable that holds the key, if one is asked"
    )
    max_concurrency: int = Field(
        64, ge=1, le=1024, description="requests under way at a time, at each server"
    )
    timeout_s: float = Field(600.0, gt=0, description="longest wait for one answer")
    max_retries: int = Field(
        5, ge=0, description="further attempts after a refused or broken request, with back-off"
    )
    sync_tolerance: float | None = Field(
        None,
        gt=0,
        description="training: how far the log-probs of a probe may lie from the trainer's after "
        "weights were handed over (mean over tokens, nats); unset: 1e-4 in float32, else 0.1",
    )

    @model_validator(mode="after")
    def usable(self) -> Self:
        for url in self.urls:
            check_address(url, "urls", "api_key_env")
        if len({url.rstrip("/") for url in self.urls}) < len(self.urls):
            raise ValueError("urls names a server twice")
        check_environment_name(self.api_key_env)
        return self

    def shaping(self) -> dict[str, Any]:
        """The settings that can change a completion. Not the addresses: the weights are ours."""
        return {"type": self.type}


def check_address(url: str, key: str, key_env: str) -> None:
    """Refuse what is no address, or holds what may be a secret; nothing of it is repeated."""
    if not re.match(r"https?://[^/]", url):
        raise ValueError(f"{key} should start with http:// or https:// and name a host")
    if "@" in url.split("/")[2] or "?" in url:
        raise ValueError(
            f"{key} should hold no user, password or query: it is written to the run folder; put "
            f"the key into the environment variable that {key_env} names"
        )


def check_environment_name(name: str) -> None:
    if not ENVIRONMENT_NAME.fullmatch(name):
        raise ValueError(
            "api_key_env should be the name of an environment variable, not the key itself"
        )


EngineSpec = Annotated[
    NativeEngineSpec | OpenAIEngineSpec | VLLMEngineSpec | VLLMServerEngineSpec,
    Field(discriminator="type"),
]
