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

    def shaping(self) -> dict[str, Any]:
        """The settings that can change a completion."""
        return {"type": self.type}


class OpenAIEngineSpec(Section):
    """A server that speaks the protocol of OpenAI's API: vLLM, llama.cpp, a provider."""

    type: Literal["openai"] = "openai"
    copies_weights: ClassVar[bool] = False  # it cannot be trained
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
        """Nothing that may be a secret is repeated in a message."""
        if not re.match(r"https?://[^/]", self.base_url):
            raise ValueError("base_url should start with http:// or https:// and name a host")
        if "@" in self.base_url.split("/")[2] or "?" in self.base_url:
            raise ValueError(
                "base_url should hold no user, password or query: it is written to the run "
                "folder; put the key into the environment variable that api_key_env names"
            )
        if not ENVIRONMENT_NAME.fullmatch(self.api_key_env):
            raise ValueError(
                "api_key_env should be the name of an environment variable, not the key itself"
            )
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
    """vLLM in this process: samples from the recipe's model, for evaluation and curation."""

    type: Literal["vllm"] = "vllm"
    copies_weights: ClassVar[bool] = True  # which are brought up to date after each update
    gpu_memory_utilization: float = Field(
        0.9, gt=0, le=1, description="share of the GPU's memory that it may take"
    )
    max_model_len: int | None = Field(
        None, ge=2, description="prompt and completion together; unset: the model's context"
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs over which a layer is split")
    enforce_eager: bool = Field(False, description="no compilation and no CUDA graphs")

    def shaping(self) -> dict[str, Any]:
        """The settings that can change a completion."""
        return {"type": self.type}


EngineSpec = Annotated[
    NativeEngineSpec | OpenAIEngineSpec | VLLMEngineSpec, Field(discriminator="type")
]
