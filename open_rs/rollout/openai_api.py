"""Our words for a completion in those of OpenAI's API, there and back, and the client that asks.

The official client makes the attempts (back-off, Retry-After, timeouts); what comes back is read
here, strictly: a usable answer, or the reason why there is none.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from open_rs.errors import InputError
from open_rs.recipe import OpenAIEngineSpec
from open_rs.rollout.protocol import FinishReason, Prompt, SamplingParams

FINISH_REASONS: Mapping[Any, FinishReason] = {"stop": "stop", "length": "length"}
SHOWN_CHARACTERS = 200  # of a server's own words, in a reason
REVISION = re.compile(r"@.+|:.+|-[0-9-]+")  # "tiny@main", "llama3.2:latest", "gpt-4o-2024-08-06"


@dataclass(frozen=True)
class Answer:
    """A completion as the server gave it."""

    completion: str
    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    logprobs: list[float] = field(default_factory=list)


class Unusable(Exception):
    """There is no usable answer; the text says why. `Client` shortens it and takes the key out."""

    def __init__(self, reason: str, *, prompt_tokens: int = 0, completion_tokens: int = 0) -> None:
        super().__init__(reason)
        self.prompt_tokens, self.completion_tokens = prompt_tokens, completion_tokens  # paid for


def request_seed(seed: int, step: int, problem_id: str, sample: int) -> int:
    """The seed of one request, 31 bits: all that some servers take. Pure, like the native noise."""
    digest = hashlib.sha256(f"{seed}\0{step}\0{problem_id}\0{sample}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1


def request_body(
    spec: OpenAIEngineSpec, prompt: Prompt, params: SamplingParams, seed: int
) -> dict[str, Any]:
    """The fields of a request. Temperature and top-p are always said: a server may have other
    defaults.
    """
    body: dict[str, Any] = {
        "model": spec.model,
        "temperature": params.temperature,
        "top_p": params.top_p,
    }
    if prompt.messages:
        body |= {"messages": list(prompt.messages), spec.token_limit: params.max_completion_tokens}
    else:
        body |= {"prompt": prompt.text, "max_tokens": params.max_completion_tokens}
    if spec.send_seed:
        body["seed"] = seed
    if params.stop:
        body["stop"] = list(params.stop)
    if spec.logprobs:
        body["logprobs"] = True if prompt.messages else 1
    top_k = {"top_k": params.top_k} if params.top_k else {}
    if top_k or spec.extra_body:
        body["extra_body"] = top_k | spec.extra_body
    return body


def read_answer(text: str, spec: OpenAIEngineSpec, prompt: Prompt, limit: int) -> Answer:
    """The completion in the body of a response; raises `Unusable`. `limit`: tokens asked for."""
    try:
        answer = json.loads(text)
    except ValueError:
        raise Unusable(f"the answer is not JSON: {' '.join(text.split())}") from None
    choices = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise Unusable("the answer holds no choices")
    named = answer.get("model")
    if isinstance(named, str) and not same_model(spec.served_as or spec.model, named):
        raise Unusable(f'another model answered: "{named}"; served_as allows a name')
    prompt_tokens, completion_tokens = _usage(answer.get("usage"))
    choice = choices[0]
    finish_reason = FINISH_REASONS.get(choice.get("finish_reason"))
    try:
        completion = _chat_text(choice, finish_reason) if prompt.messages else choice.get("text")
        if finish_reason is None:
            raise Unusable(f"the answer ended by {choice.get('finish_reason')!r}")
        if not isinstance(completion, str):
            raise Unusable("the answer holds no text")
        if prompt.prompt_ids and prompt_tokens != len(prompt.prompt_ids):
            raise Unusable(
                f"the server read another prompt: {prompt_tokens} tokens, not "
                f"{len(prompt.prompt_ids)} (another tokenizer, or tokens that it adds; see mode)"
            )
        if completion_tokens > limit:
            raise Unusable(
                f"the answer has {completion_tokens} tokens, over the limit of {limit} (the server "
                "does not know it by this name; see token_limit)"
            )
    except Unusable as error:
        raise Unusable(
            str(error), prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
        ) from None
    return Answer(completion, finish_reason, prompt_tokens, completion_tokens, _logprobs(choice))


def same_model(asked: str, named: str) -> bool:
    """Whether a server that was asked for one model names that one, or a version of it."""
    asked, named = (name.rstrip("/").lower() for name in (asked, named))
    tails = (asked.rpartition("/")[2], named.rpartition("/")[2])
    if asked == named or tails[0] == tails[1]:
        return True
    return tails[1].startswith(tails[0]) and bool(REVISION.fullmatch(tails[1][len(tails[0]) :]))


def _usage(usage: Any) -> tuple[int, int]:
    """(prompt tokens, completion tokens) as the server counts them."""
    counts = usage if isinstance(usage, dict) else {}
    prompt, completion = (counts.get(key) for key in ("prompt_tokens", "completion_tokens"))
    if type(prompt) is int and type(completion) is int and min(prompt, completion) >= 0:
        return prompt, completion
    raise Unusable("the answer does not count its tokens (usage)")


def _chat_text(choice: dict[str, Any], finish_reason: FinishReason | None) -> Any:
    """The text of a message. A thought that the server has put apart comes back in its tags, left
    open where the completion was cut inside it.
    """
    message = choice.get("message")
    if not isinstance(message, dict):
        return None
    content, refusal = message.get("content"), message.get("refusal")
    thought = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thought, str):
        if not content and finish_reason == "length":
            return f"<think>{thought}"
        return f"<think>{thought}</think>{content or ''}"
    return refusal if content is None and refusal else content


def _logprobs(choice: dict[str, Any]) -> list[float]:
    """Those of the sampled tokens, where the server gives them; else empty."""
    given = choice.get("logprobs")
    if not isinstance(given, dict):
        return []
    tokens = given.get("content")
    values = given.get("token_logprobs")
    if isinstance(tokens, list):
        values = [one.get("logprob") for one in tokens if isinstance(one, dict)]
    numbers = values if isinstance(values, list) else []
    return [float(one) for one in numbers if isinstance(one, int | float)]


class Connection:
    """The way to one server, from any thread: the official client, which makes the attempts.

    The key is read from the environment here and kept by that client alone.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key_env: str,
        timeout_s: float,
        max_retries: int,
        before_request: Callable[[], None] = lambda: None,
    ) -> None:
        """`before_request` is called before each attempt, and may wait."""
        try:
            import openai
        except ImportError:
            raise InputError(
                "rollout.engine: an endpoint needs the openai package; "
                'pip install "open-rs[openai]"'
            ) from None
        self.base_url, self.api_key_env = base_url, api_key_env
        self.timeout_s, self.attempts = timeout_s, max_retries + 1
        self._errors: Any = openai
        self._key = read_key(api_key_env)
        self.openai = openai.OpenAI(
            api_key=self._key or "none",  # a server that asks for none still gets a header
            base_url=base_url,
            timeout=timeout_s,
            max_retries=max_retries,
            http_client=openai.DefaultHttpxClient(
                event_hooks={"request": [lambda request: before_request()]}
            ),
        )

    def get(self, path: str) -> str:
        """The text of an answer; raises `Unusable`, or `InputError` where the key is refused."""
        return self.text(lambda: self.openai.get(path, cast_to=str))

    def post(self, path: str, body: object = None) -> str:
        """As `get`, with a JSON body."""
        return self.text(lambda: self.openai.post(path, cast_to=str, body=body))

    def text(self, call: Callable[[], str]) -> str:
        try:
            return call()
        except self._errors.APIError as error:
            raise self._reason(error) from None

    def _reason(self, error: Any) -> Exception:
        """Why the attempts gave no answer."""
        attempts = f"{self.attempts} attempts"
        status = getattr(error, "status_code", None)
        said = "" if status is None else self.safe(" ".join(_message(error.body).split()))
        if status in (401, 403):
            held = "is refused" if self._key else "is not set, and the server asks for a key"
            return InputError(
                f"rollout.engine: {self.base_url} answers {status}: the key in {self.api_key_env} "
                f"{held}; set that variable to a valid key" + (f" (it says: {said})" * bool(said))
            )
        if status is not None:
            text = f"the server answers {status}" + (f": {said}" if said else "")
        elif isinstance(error, self._errors.APITimeoutError):
            text = f"no answer within {self.timeout_s:g} s ({attempts})"
        else:
            cause = error.__cause__ or error
            text = f"no connection ({attempts}): {type(cause).__name__}: {cause}"
        return Unusable(self.safe(text))

    def safe(self, text: str) -> str:
        """A server may repeat the key: it goes before the text is cut."""
        return (text.replace(self._key, "***") if self._key else text)[:SHOWN_CHARACTERS]


class Client(Connection):
    """Asks the endpoint of `spec`."""

    def __init__(self, spec: OpenAIEngineSpec, before_request: Callable[[], None]) -> None:
        super().__init__(
            spec.base_url,
            api_key_env=spec.api_key_env,
            timeout_s=spec.timeout_s,
            max_retries=spec.max_retries,
            before_request=before_request,
        )
        self.spec = spec

    def ask(self, prompt: Prompt, params: SamplingParams, seed: int) -> Answer:
        """One completion; raises `Unusable`, or `InputError` where the key is refused."""
        body = request_body(self.spec, prompt, params, seed)
        kind: Any = self.openai.chat.completions if prompt.messages else self.openai.completions
        text = self.text(lambda: kind.with_raw_response.create(**body).http_response.text)
        try:
            return read_answer(text, self.spec, prompt, params.max_completion_tokens)
        except Unusable as error:
            error.args = (self.safe(str(error)),)
            raise


def read_key(name: str) -> str:
    """The key in the environment variable `name`; empty where it is not set."""
    key = os.environ.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise InputError(f"{name}: the key holds characters that no header can carry; set it anew")
    return key


def _message(body: Any) -> str:
    """What a server says about an error, in the shapes that are in use."""
    if isinstance(body, dict):
        for key in ("message", "error", "detail"):
            if body.get(key):
                return _message(body[key])
        return ""
    return body if isinstance(body, str) and not body.lstrip().startswith("<") else ""
