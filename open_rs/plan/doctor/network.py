"""Endpoints, ports and proxies: what a run has to reach."""

import json
import os
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from open_rs.machine import package_version
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.recipe import OpenAIEngineSpec, Recipe

WAIT_S = 2.0  # for an endpoint to answer
LOOPBACK = ("localhost", "127.0.0.1", "::1")
PORTS = ("MASTER_PORT", "VLLM_PORT")
ANSWER_BYTES = 1 << 20
# by the name in train.trackers
TRACKER_PACKAGES = {"tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}


def endpoints(recipe: Recipe) -> dict[str, OpenAIEngineSpec]:
    """The endpoints of a recipe, by the key that names them."""
    named = {"rollout.engine": recipe.rollout.engine}
    for number, one in enumerate(recipe.filters):
        engine = getattr(one, "engine", None)
        if engine is not None:
            named[f"filters.{number}.engine"] = engine
    return {key: one for key, one in named.items() if isinstance(one, OpenAIEngineSpec)}


NONE = "the recipe asks no endpoint"


def host_of(spec: OpenAIEngineSpec) -> str:
    return urllib.parse.urlsplit(spec.base_url).hostname or ""


def package(subject: Subject) -> Verdict:
    """The client for endpoints is installed where the recipe asks one."""
    if not endpoints(subject.recipe):
        return skipped(NONE)
    have = package_version("openai")
    if have is None:
        return fail("the openai package is not installed", 'pip install "open-rs[openai]"')
    return ok(f"openai {have}")


def keys(subject: Subject) -> Verdict:
    """The variable that holds an endpoint's key is set; a server on this machine may need none."""
    from open_rs.rollout.openai_api import read_key

    named = endpoints(subject.recipe)
    if not named:
        return skipped(NONE)
    for key, spec in named.items():
        if not read_key(spec.api_key_env) and host_of(spec) not in LOOPBACK:
            return fail(
                f"{key}: {spec.api_key_env} is not set", f"export {spec.api_key_env}=... first"
            )
    return ok(", ".join(f"{spec.api_key_env} for {host_of(spec)}" for spec in named.values()))


def proxy(subject: Subject) -> Verdict:
    """No proxy stands between this process and a server on this machine."""
    named = endpoints(subject.recipe)
    if not named:
        return skipped(NONE)
    proxies = urllib.request.getproxies()
    for key, spec in named.items():
        scheme = urllib.parse.urlsplit(spec.base_url).scheme
        host = host_of(spec)
        if host in LOOPBACK and scheme in proxies and not urllib.request.proxy_bypass(host):
            return warn(
                f"{key}: requests to {host} go to the proxy of {scheme}_proxy",
                f"export no_proxy={host}",
            )
    return ok("none in the way")


@dataclass(frozen=True)
class Reply:
    """What an endpoint answered: `status` None where nothing did."""

    status: int | None
    reason: str
    models: tuple[str, ...]


def reply_of(subject: Subject, spec: OpenAIEngineSpec) -> Reply:
    """The answer to GET /models, asked once."""
    held: dict[str, Reply] = subject.kept.setdefault("replies", {})
    if spec.base_url not in held:
        held[spec.base_url] = _ask(spec)
    return held[spec.base_url]


def _ask(spec: OpenAIEngineSpec) -> Reply:
    from open_rs.rollout.openai_api import read_key

    url = f"{spec.base_url.rstrip('/')}/models"
    headers = {"Authorization": f"Bearer {read_key(spec.api_key_env) or 'none'}"}
    try:
        request = urllib.request.Request(url, headers=headers)
        with urllib.request.build_opener().open(request, timeout=WAIT_S) as answer:
            return Reply(answer.status, "", _models(answer.read(ANSWER_BYTES)))
    except urllib.error.HTTPError as error:
        return Reply(error.code, str(error.reason), ())
    except (OSError, ValueError) as error:  # no connection, no answer in time, no HTTP
        return Reply(None, str(getattr(error, "reason", error)), ())


def _models(content: bytes) -> tuple[str, ...]:
    """The ids in the list of models; none where the server lists them in another way."""
    try:
        listed: Any = json.loads(content)
    except ValueError:
        return ()
    rows = listed.get("data") if isinstance(listed, Mapping) else None
    return tuple(str(one["id"]) for one in rows or () if isinstance(one, Mapping) and "id" in one)


def reachable(subject: Subject) -> Verdict:
    """Each endpoint answers."""
    named = endpoints(subject.recipe)
    if not named:
        return skipped(NONE)
    for key, spec in named.items():
        reply = reply_of(subject, spec)
        if reply.status is None:
            return fail(
                f"{key}: {spec.base_url} does not answer ({reply.reason})",
                "start the server, or correct base_url",
            )
        if reply.status >= 500:
            return warn(
                f"{key}: {spec.base_url} answers {reply.status} ({reply.reason})",
                "look at the server's log",
            )
    return ok(", ".join(spec.base_url for spec in named.values()))


def key_taken(subject: Subject) -> Verdict:
    """Each endpoint takes the key."""
    for key, spec in endpoints(subject.recipe).items():
        status = reply_of(subject, spec).status
        if status in (401, 403):
            return fail(
                f"{key}: {spec.base_url} answers {status}: the key in {spec.api_key_env} is not "
                "set, or is refused",
                "set that variable to a valid key",
            )
    return ok("no key is refused")


def model(subject: Subject) -> Verdict:
    """Each endpoint serves the model that the recipe names."""
    from open_rs.rollout.openai_api import same_model

    for key, spec in endpoints(subject.recipe).items():
        served = reply_of(subject, spec).models
        if served and not any(same_model(spec.model, one) for one in served):
            return fail(
                f"{key}: {spec.base_url} serves {', '.join(served[:5])}, not {spec.model}",
                f"correct {key}.model, or start the server with that model",
            )
    return ok("it does, or it does not say")


def ports(subject: Subject) -> Verdict:
    """The ports that the environment sets for processes of a run are free."""
    given = {name: os.environ[name] for name in PORTS if os.environ.get(name)}
    for name, text in given.items():
        if not text.isdecimal() or not 0 < int(text) < 65536:
            return fail(f"{name} is {text!r}, which is no port", f"unset {name}")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", int(text)))
            except OSError as error:
                return fail(
                    f"{name} = {text}: the port cannot be taken ({error.strerror})",
                    f"end what listens there, or set {name} to another port",
                )
    return ok(", ".join(given.values()) or "none is set")


def trackers(subject: Subject) -> Verdict:
    """The experiment trackers that the recipe names are installed."""
    named = subject.recipe.train.trackers
    missing = [TRACKER_PACKAGES[one] for one in named if not package_version(TRACKER_PACKAGES[one])]
    if missing:
        return fail(f"not installed: {', '.join(missing)}", f"pip install {' '.join(missing)}")
    return ok(", ".join(named)) if named else skipped("the recipe names none")


def price(subject: Subject) -> Verdict:
    """A price is known where the recipe caps dollars."""
    from open_rs.plan.cost import device_name, price_per_hour

    if subject.recipe.budget.usd is None:
        return skipped("the recipe caps no dollars")
    found = price_per_hour(subject.recipe.budget, device_name(subject.device))
    return ok(f"${found:g} an hour")


CHECKS = (
    Check("endpoint.package", package),
    Check("endpoint.keys", keys),
    Check("endpoint.proxy", proxy),
    Check("endpoint.answers", reachable, ahead=True),
    Check("endpoint.key_taken", key_taken, needs=("endpoint.answers", "endpoint.keys")),
    Check("endpoint.model", model, needs=("endpoint.answers",)),
    Check("run.ports", ports),
    Check("run.trackers", trackers),
    Check("budget.price", price, needs=("device.usable",)),
)
