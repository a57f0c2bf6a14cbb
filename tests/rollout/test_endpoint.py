"""The engine of an endpoint against a scripted server: requests, faults, money, secrets."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loopback import Reply, answer, scripted_server

from open_rs.errors import GuardStop, InputError
from open_rs.grade import Grader
from open_rs.interrupt import Interrupted, stop_on_signals
from open_rs.problems import Problem
from open_rs.prompts import ServerPrompter
from open_rs.recipe import OpenAIEngineSpec, PromptRecipe, recipe_from_dict
from open_rs.rollout.build import open_sampler
from open_rs.rollout.endpoint import EndpointEngine
from open_rs.rollout.graded import GradedSampler
from open_rs.rollout.limits import Budget, Pacer
from open_rs.rollout.openai_api import request_seed, same_model
from open_rs.rollout.protocol import Prompt, SamplingParams

PARAMS = SamplingParams(max_completion_tokens=16, temperature=0.7, top_p=0.9)
CANARY = "sk-canary-93ab71c0d2e4"
AT_ONCE = {"retry-after-ms": "1"}  # so that tests need not wait for the back-off
PRICES = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0}


def spec_of(server, **changes):
    settings = {"base_url": server.base_url, "model": server.model, "max_retries": 0}
    return OpenAIEngineSpec(**{**settings, **changes})


def chat_prompts(*ids):
    prompter = ServerPrompter(PromptRecipe(system="be brief"))
    return [prompter.encode(Problem(one, f"what is {one}?", "4")) for one in ids]


def text_prompts(*ids):
    return [Prompt(Problem(one, "", "4"), [1] * 7, text=f"prompt {one}") for one in ids]


def draw(server, prompts, *, group_size=1, params=PARAMS, **changes):
    """The rollouts of all prompts; `seed` and `step` fixed."""
    engine = EndpointEngine(spec_of(server, **changes))
    groups = engine.generate(prompts, group_size=group_size, params=params, seed=3, step=5)
    return [rollout for group in groups for rollout in group.rollouts]


def always(reply):
    return lambda request, before: reply


# What is asked


def test_a_chat_request_says_everything_that_shapes_the_answer():
    with scripted_server(always(answer("4"))) as server:
        draw(server, chat_prompts("a"))
    (request,) = server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body == {
        "model": "some/model",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "what is a?"},
        ],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_completion_tokens": 16,
        "seed": request_seed(3, 5, "a", 0),
    }


def test_a_text_request_and_the_optional_fields():
    params = SamplingParams(16, temperature=0.0, top_p=1.0, top_k=5, stop=("END",))
    with scripted_server(always(answer("4", chat=False))) as server:
        draw(server, text_prompts("a"), params=params, send_seed=False, logprobs=True,
             extra_body={"repetition_penalty": 1.0})  # fmt: skip
    (request,) = server.requests
    assert request.path == "/v1/completions"
    assert request.body == {
        "model": "some/model", "prompt": "prompt a", "temperature": 0.0, "top_p": 1.0,
        "max_tokens": 16, "stop": ["END"], "logprobs": 1, "top_k": 5, "repetition_penalty": 1.0,
    }  # fmt: skip


def test_the_limit_goes_by_the_name_that_the_server_knows():
    with scripted_server(always(answer("4"))) as server:
        draw(server, chat_prompts("a"), token_limit="max_tokens")
    assert server.requests[0].body["max_tokens"] == 16
    assert "max_completion_tokens" not in server.requests[0].body


def test_seeds_are_a_pure_function_and_fit_into_31_bits():
    seeds = {
        request_seed(seed, step, name, sample)
        for seed in (0, 1) for step in (-1, 5) for name in ("a", "b") for sample in range(50)
    }  # fmt: skip
    assert len(seeds) == 400 and all(0 <= one < 2**31 for one in seeds)
    # printf '0\0-1\0a\0000' | sha256sum begins with 53 fc aa 2c, read here as little-endian
    assert request_seed(0, -1, "a", 0) == 0x2CAAFC53 >> 1


def test_samples_that_are_known_are_not_asked_for():
    with scripted_server(always(answer("4"))) as server:
        engine = EndpointEngine(spec_of(server))
        groups = engine.generate(
            chat_prompts("a", "b"), group_size=2, params=PARAMS, seed=3, step=5,
            skip={("a", 0), ("b", 1)},
        )  # fmt: skip
    assert [[one.sample for one in group.rollouts] for group in groups] == [[1], [0]]
    asked = {request.body["seed"] for request in server.requests}
    assert asked == {request_seed(3, 5, "a", 1), request_seed(3, 5, "b", 0)}


# What comes back


def test_answers_find_their_prompt_and_sample_whatever_their_order():
    """The first requests are answered last; each answer says which request it belongs to."""
    all_here = threading.Barrier(6)

    def script(request, before):
        all_here.wait(timeout=30)
        threading.Event().wait(0.02 * (6 - before))
        return answer(str(request.body["seed"]), tokens=before + 1)

    caller, seen = threading.get_ident(), []

    def on_finished(prompt, rollout):
        assert threading.get_ident() == caller
        seen.append((prompt.problem.id, rollout.sample))

    with scripted_server(script) as server:
        engine = EndpointEngine(spec_of(server, max_concurrency=6, **PRICES))
        groups = engine.generate(
            chat_prompts("a", "b"), group_size=3, params=PARAMS, seed=3, step=5,
            on_finished=on_finished,
        )  # fmt: skip
    for group, name in zip(groups, "ab", strict=True):
        assert [one.sample for one in group.rollouts] == [0, 1, 2]
        for one in group.rollouts:
            assert one.completion == str(request_seed(3, 5, name, one.sample))
            assert one.completion_ids == [] and one.finish_reason == "stop" and one.error is None
            # 7 prompt tokens at 1 dollar and the completion's at 10, per million
            assert one.usd == pytest.approx((7 + 10 * one.num_tokens) / 1e6)
    assert sorted(seen) == [(name, sample) for name in "ab" for sample in range(3)]
    stats = engine.stats
    assert (stats.prompt_tokens, stats.completion_tokens) == (42, 21)
    assert stats.usd == pytest.approx((42 + 210) / 1e6)


def test_no_more_requests_at_a_time_than_allowed():
    three = threading.Barrier(3)

    def script(request, before):
        three.wait(timeout=30)  # breaks unless three are under way together
        return answer("4")

    with scripted_server(script) as server:
        assert len(draw(server, chat_prompts("a"), group_size=12, max_concurrency=3)) == 12
    assert server.most_at_once == 3


def test_without_keep_the_groups_stay_empty():
    with scripted_server(always(answer("4"))) as server:
        engine, seen = EndpointEngine(spec_of(server)), []
        groups = engine.generate(
            chat_prompts("a"), group_size=2, params=PARAMS, seed=0,
            on_finished=lambda prompt, rollout: seen.append(rollout), keep=False,
        )  # fmt: skip
    assert len(seen) == 2 and groups[0].rollouts == []


@pytest.mark.parametrize(
    ("message", "reason", "completion"),
    [
        ({"content": "4", "reasoning_content": "2 + 2"}, "stop", "<think>2 + 2</think>4"),
        ({"content": "4", "reasoning": "2 + 2"}, "stop", "<think>2 + 2</think>4"),
        ({"content": None, "reasoning_content": "2 +"}, "length", "<think>2 +"),
        ({"content": "", "reasoning_content": "2 + 2"}, "stop", "<think>2 + 2</think>"),
        ({"content": ""}, "stop", ""),
        ({"content": None, "refusal": "I cannot"}, "stop", "I cannot"),
    ],
)
def test_a_thought_that_the_server_has_put_apart_comes_back(message, reason, completion):
    reply = answer("", message={"role": "assistant", **message}, finish_reason=reason)
    with scripted_server(always(reply)) as server:
        (rollout,) = draw(server, chat_prompts("a"))
    assert (rollout.completion, rollout.finish_reason) == (completion, reason)


def test_log_probs_where_the_server_gives_them():
    tokens = {"content": [{"token": "4", "logprob": -0.25}, {"token": "", "logprob": -1}]}
    with scripted_server(always(answer("4", logprobs=tokens))) as server:
        (rollout,) = draw(server, chat_prompts("a"), logprobs=True)
    assert rollout.engine_logprobs == [-0.25, -1.0]
    listed = {"tokens": ["4"], "token_logprobs": [-0.5]}
    with scripted_server(always(answer("4", chat=False, logprobs=listed))) as server:
        (rollout,) = draw(server, text_prompts("a"), logprobs=True)
    assert rollout.engine_logprobs == [-0.5]


@pytest.mark.parametrize(
    ("asked", "named", "same"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B-Instruct", True),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b-instruct", True),
        ("assets/tiny", "assets/tiny@main", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("llama3.2", "llama3.2:latest", True),
        ("gpt-4o", "gpt-4o-mini-2024-07-18", False),
        ("gpt-4o", "gpt-4", False),
        ("some/model", "other/thing", False),
    ],
)
def test_which_names_are_the_same_model(asked, named, same):
    assert same_model(asked, named) is same


# What goes wrong

GOOD = json.loads(answer("4").body)
ODD_USAGE = {"prompt_tokens": True, "completion_tokens": 1}
FAULTS = [
    (Reply("<html>502</html>", content_type="text/html"), "the answer is not JSON: <html>502"),
    (Reply('{"choices": [{"mess'), "the answer is not JSON"),
    (Reply('"4"'), "the answer holds no choices"),
    (Reply(json.dumps(GOOD | {"choices": []})), "the answer holds no choices"),
    (Reply(json.dumps(GOOD | {"model": "other/thing"})), 'another model answered: "other/thing"'),
    (Reply(json.dumps(GOOD | {"usage": None})), "does not count its tokens"),
    (Reply(json.dumps(GOOD | {"usage": ODD_USAGE})), "does not count its tokens"),
    (answer("", message={"role": "assistant", "content": None}), "the answer holds no text"),
    (answer("4", finish_reason="content_filter"), "the answer ended by 'content_filter'"),
    (answer("4", finish_reason=None), "the answer ended by None"),
    (answer("4", tokens=17), "17 tokens, over the limit of 16"),
    (Reply('{"error": {"message": "prompt too long"}}', 400), "answers 400: prompt too long"),
    (Reply('{"detail": "no such model"}', 404), "answers 404: no such model"),
    (Reply("<html>gone</html>", 500, content_type="text/html"), "the server answers 500"),
    (Reply('{"error": "slow down"}', 429, AT_ONCE), "answers 429: slow down"),
    (Reply(answer("4").body, cut=True), "no connection"),
    (Reply(hang=True), "no answer within 0.3 s (1 attempts)"),
]


@pytest.mark.parametrize(("reply", "reason"), FAULTS, ids=[reason for _, reason in FAULTS])
def test_a_request_without_a_usable_answer_is_undecided_and_says_why(reply, reason):
    with scripted_server(always(reply)) as server, Grader() as grader:
        engine = EndpointEngine(spec_of(server, max_undecided=1, timeout_s=0.3))
        sampler = GradedSampler(engine, grader, ServerPrompter(PromptRecipe()))
        (group,) = sampler.sample(chat_prompts("a"), group_size=1, params=PARAMS, seed=0)
    (rollout,) = group.rollouts
    assert reason in rollout.error
    assert rollout.finish_reason == "error" and rollout.completion == ""
    assert rollout.grade.outcome == "error" and not rollout.grade.decided


def test_the_wait_for_an_answer_is_bounded():
    with scripted_server(always(Reply(hang=True))) as server:
        started = time.monotonic()
        (rollout,) = draw(server, chat_prompts("a"), max_undecided=1, timeout_s=0.2)
        assert rollout.error and time.monotonic() - started < 4


def test_another_prompt_length_shows_that_the_server_read_another_prompt():
    with scripted_server(always(answer("4", chat=False))) as server:
        prompt = Prompt(Problem("a", "", "4"), [1] * 6, text="prompt")  # the server counts 7
        (rollout,) = draw(server, [prompt], max_undecided=1)
    assert rollout.error.startswith("the server read another prompt: 7 tokens, not 6")


def test_a_name_that_the_answers_bear_can_be_allowed():
    with scripted_server(always(answer("4", model="alias"))) as server:
        (rollout,) = draw(server, chat_prompts("a"), served_as="alias")
    assert rollout.error is None


@pytest.mark.parametrize(
    "fault",
    [
        Reply("busy", 500, AT_ONCE),
        Reply('{"error": "rate"}', 429, AT_ONCE),
        Reply("{}", cut=True),
    ],
)
def test_what_passes_is_tried_again(fault):
    def script(request, before):
        return fault if before < 2 else answer("4")

    with scripted_server(script) as server:
        (rollout,) = draw(server, chat_prompts("a"), max_retries=2)
    assert rollout.completion == "4" and len(server.requests) == 3
    assert len({request.body["seed"] for request in server.requests}) == 1


def test_retry_after_is_kept_to():
    def script(request, before):
        return answer("4") if before else Reply("", 429, {"Retry-After": "1"})

    with scripted_server(script) as server:
        (rollout,) = draw(server, chat_prompts("a"), max_retries=1)
    first, second = server.requests
    assert rollout.error is None and second.time - first.time >= 1


def test_a_server_that_is_down_stops_the_work_with_one_sentence():
    with scripted_server(always(answer("4"))) as server:
        pass  # and now nothing listens there
    with pytest.raises(GuardStop) as caught:
        draw(server, chat_prompts("a"), group_size=1000)
    words = str(caught.value)
    # eight failures are the fewest that stop it
    assert words.startswith(f"rollout.engine: 8 of 8 requests to {server.base_url} have no usable")
    assert "max_undecided = 0.1 (8 x no connection" in words and "\n" not in words


def test_a_server_that_dies_in_the_middle_loses_nothing_that_it_said():
    def script(request, before):
        return answer("4") if before < 40 else Reply("", 500)

    seen = []
    with scripted_server(script) as server:
        engine = EndpointEngine(spec_of(server, max_concurrency=1))
        with pytest.raises(GuardStop, match="the server answers 500"):
            engine.generate(
                chat_prompts("a"), group_size=1000, params=PARAMS, seed=0,
                on_finished=lambda prompt, rollout: seen.append(rollout),
            )  # fmt: skip
    assert sum(one.error is None for one in seen) == 40
    assert sum(one.error is not None for one in seen) == 8  # 8 / 48 > 0.1
    assert engine.stats.completion_tokens == 120


def test_a_few_failures_are_borne_and_a_small_set_is_judged_at_its_end():
    def script(request, before):
        return Reply("", 500) if before in (3, 11) else answer("4")

    with scripted_server(script) as server:
        rollouts = draw(server, chat_prompts("a"), group_size=20, max_concurrency=1)
    assert [one.sample for one in rollouts if one.error] == [3, 11]  # 2 / 20 is not above 0.1
    with (
        scripted_server(script) as server,
        pytest.raises(GuardStop, match="1 of 4 requests"),
    ):
        draw(server, chat_prompts("a"), group_size=4, max_concurrency=1)


def test_known_samples_count_as_answered():
    """So that a resumed set whose few failures are asked again is not stopped by them alone."""
    with scripted_server(always(Reply("", 500))) as server:
        engine = EndpointEngine(spec_of(server))
        (group,) = engine.generate(
            chat_prompts("a"), group_size=20, params=PARAMS, seed=0,
            skip={("a", sample) for sample in range(18)},
        )  # fmt: skip
    assert [one.error for one in group.rollouts] == ["the server answers 500"] * 2


def test_an_interrupt_does_not_wait_for_answers_under_way():
    class Interrupt(BaseException):
        pass

    def script(request, before):
        return Reply(hang=True) if before else answer("4")

    def stop(prompt, rollout):
        raise Interrupt

    with scripted_server(script) as server:
        engine = EndpointEngine(spec_of(server, max_concurrency=2))
        started = time.monotonic()
        with pytest.raises(Interrupt):
            engine.generate(
                chat_prompts("a"), group_size=2, params=PARAMS, seed=0, on_finished=stop
            )
        assert time.monotonic() - started < 5


def test_a_signal_is_seen_while_an_answer_is_waited_for():
    def script(request, before):
        os.kill(os.getpid(), signal.SIGTERM)
        return Reply(hang=True)

    with scripted_server(script) as server, stop_on_signals(), pytest.raises(Interrupted):
        draw(server, chat_prompts("a"))


# Money


def test_the_cap_is_never_passed_and_what_was_answered_is_delivered():
    # A request costs 7 + 30 = 37 millionths here and may cost 8 + 10 + 64 + 160 = 242 at most:
    # bytes of the two messages, the template, the completion at its cap. With 1000 millionths and
    # one at a time, request n goes out while 37 (n - 1) + 242 <= 1000: 21 of them.
    seen = []
    with scripted_server(always(answer("4"))) as server:
        engine = EndpointEngine(spec_of(server, max_usd=0.001, max_concurrency=1, **PRICES))
        with pytest.raises(GuardStop, match=r"max_usd = 0.001: 0.0008 dollars are spent"):
            engine.generate(
                chat_prompts("a"), group_size=99, params=PARAMS, seed=0,
                on_finished=lambda prompt, rollout: seen.append(rollout),
            )  # fmt: skip
    assert len(seen) == len(server.requests) == 21
    assert engine.budget.spent_usd == pytest.approx(21 * 37e-6)


def test_money_spent_before_counts():
    with scripted_server(always(answer("4"))) as server:
        engine = EndpointEngine(spec_of(server, max_usd=0.001, **PRICES), spent_usd=0.00099)
        with pytest.raises(GuardStop, match="max_usd"):
            engine.generate(chat_prompts("a"), group_size=1, params=PARAMS, seed=0)
    assert server.requests == []


@given(
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 999), st.floats(0, 1)), max_size=40),
    st.floats(1e-6, 1e-2),
    st.integers(1, 5),
)
def test_the_budget_holds_in_whatever_order_answers_end(requests, max_usd, at_once):
    spec = OpenAIEngineSpec(base_url="http://h", model="m", max_usd=max_usd, **PRICES)
    budget, under_way = Budget(spec), []
    for prompt_tokens, completion_tokens, share in requests:
        held = budget.cost(prompt_tokens, completion_tokens)
        if len(under_way) < at_once and budget.hold(held):
            under_way.append((held, held * share))
        elif under_way:
            budget.settle(*under_way.pop(0))
        assert budget.spent_usd + budget.held_usd <= max_usd * (1 + 1e-9)
    for one in under_way:
        budget.settle(*one)
    assert budget.spent_usd <= max_usd * (1 + 1e-9)
    assert budget.held_usd == pytest.approx(0, abs=1e-12)


# Rate


def test_the_pacer_lets_one_through_at_a_time():
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    pacer = Pacer(120, clock=lambda: now[0], sleep=sleep)  # one each half second
    pacer.wait()
    pacer.wait()
    now[0] += 0.2
    pacer.wait()
    now[0] += 5  # a pause saves nothing up
    pacer.wait()
    pacer.wait()
    assert slept == pytest.approx([0.5, 0.3, 0.5])


def test_retries_count_towards_the_rate():
    def script(request, before):
        return Reply("", 500, AT_ONCE) if before % 2 == 0 else answer("4")

    with scripted_server(script) as server:
        draw(
            server, chat_prompts("a"), group_size=3, max_retries=1, requests_per_minute=1200,
            max_concurrency=1,
        )  # fmt: skip
    times = [request.time for request in server.requests]
    assert len(times) == 6 and times[-1] - times[0] >= 5 * 0.05 * 0.9


# Secrets


def test_the_key_comes_from_the_environment_and_shows_nowhere(monkeypatch, caplog):
    """A server that repeats the key in every way that an error can be told."""
    monkeypatch.setenv("SOME_KEY", f"{CANARY}\n")
    echoes = [
        Reply(json.dumps({"error": {"message": f"bad request with {CANARY}"}}), 400),
        Reply(f"<html>{'x' * 160}{CANARY}</html>", content_type="text/html"),  # where it is cut
        Reply(json.dumps(GOOD | {"model": CANARY})),
        Reply(CANARY, 500),
        Reply(json.dumps({"error": {"message": f"not a key: {CANARY}"}}), 401),
    ]
    caplog.set_level(logging.DEBUG)
    with scripted_server(lambda request, before: echoes[before]) as server:
        spec = spec_of(server, api_key_env="SOME_KEY", max_undecided=1, max_concurrency=1)
        engine = EndpointEngine(spec)
        rollouts = []
        with pytest.raises(InputError, match="401: the key in SOME_KEY is refused") as caught:
            engine.generate(
                chat_prompts("a"), group_size=5, params=PARAMS, seed=0,
                on_finished=lambda prompt, rollout: rollouts.append(rollout),
            )  # fmt: skip
    assert {r.headers["authorization"] for r in server.requests} == {f"Bearer {CANARY}"}
    assert len(rollouts) == 4 and all(one.error for one in rollouts)
    shown = [repr(rollouts), repr(engine), repr(engine.spec), spec.model_dump_json(), caplog.text]
    shown += traceback.format_exception(caught.value)
    for length in range(len(CANARY), 8, -1):  # nor a part of it, where a text was cut
        assert not any(CANARY[:length] in text for text in shown)


def test_a_key_that_is_asked_for_and_not_set(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with (
        scripted_server(always(Reply("", 401))) as server,
        pytest.raises(InputError, match="OPENAI_API_KEY is not set, and the server asks for a key"),
    ):
        draw(server, chat_prompts("a"))


def test_a_key_that_no_header_can_carry_is_not_repeated(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{CANARY}\nü")
    with scripted_server(always(answer("4"))) as server, pytest.raises(InputError) as caught:
        draw(server, chat_prompts("a"))
    assert str(caught.value).startswith("OPENAI_API_KEY: the key holds") and not server.requests
    assert CANARY not in str(caught.value)


# Building


def test_an_endpoint_cannot_be_trained_and_the_client_is_asked_for_by_name(monkeypatch):
    engine = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "some/model"}
    recipe = recipe_from_dict({"rollout": {"engine": engine}})
    with (
        pytest.raises(InputError, match="an endpoint cannot be trained"),
        open_sampler(recipe, model=object()),
    ):
        pass
    with open_sampler(recipe) as sampler, pytest.raises(InputError, match="weights"):
        sampler.engine.load_weights(object())
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match=r"pip install .open-rs\[openai\]"), open_sampler(recipe):
        pass


def test_a_template_of_ones_own_has_no_place_in_chat_mode():
    engine = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "mode": "chat"}
    recipe = recipe_from_dict({"rollout": {"engine": engine}, "prompt": {"chat_template": "x"}})
    with (
        pytest.raises(InputError, match=r"prompt.chat_template: the server applies its own"),
        open_sampler(recipe),
    ):
        pass


def test_chat_mode_needs_no_torch():
    script = """
import sys
from open_rs.recipe import recipe_from_dict
from open_rs.rollout.build import open_sampler
engine = {"type": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "some/model"}
with open_sampler(recipe_from_dict({"rollout": {"engine": engine}})) as sampler:
    assert sampler.engine.harness["endpoint"]["mode"] == "chat"
assert "torch" not in sys.modules and "transformers" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
