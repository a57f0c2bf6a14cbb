"""Reading a recipe: TOML, overrides, and errors that name the key and the cure."""

import copy
import difflib
import json
import re
import tomllib
import types
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from open_rs.errors import InputError
from open_rs.recipe.metrics import refuse_unknown_metrics
from open_rs.recipe.moving import prospects, refuse_combinations, refuse_overlaps
from open_rs.recipe.schema import Recipe
from open_rs.text import redact


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe at `path` (.toml, or a run's recipe.json) with `key=value` overrides applied."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"recipe {path}: no such file; the shipped ones lie in recipes/") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {path}: cannot be read ({error})") from None
    try:
        settings = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"recipe {path}: not valid {path.suffix[1:].upper()}: {error}") from None
    if not isinstance(settings, dict):
        raise InputError(f"recipe {path}: holds no table of settings but {settings!r:.40}")
    return recipe_from_dict(override(settings, overrides), where=f"recipe {path}")


def shipped_recipe(name: str) -> Path:
    """The path of a recipe inside the package: the quickstart must run without a clone."""
    return Path(str(resources.files("open_rs") / "assets" / "recipes" / f"{name}.toml"))


def override(settings: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`settings` with each `a.b.c=value` put in; values are read as TOML, and as text where that
    fails.
    """
    settings = copy.deepcopy(settings)
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not all(key.strip().split(".")):
            raise InputError(
                f"override {text!r}: write it as key=value, such as train.num_steps=50"
            )
        put_in(settings, key.strip(), _toml_value(value))
    return settings


def put_in(settings: dict[str, Any], key: str, value: Any) -> None:
    """Put a value in at a dotted key, in place; tables on the way are made."""
    *parents, last = key.split(".")
    place: Any = settings
    for part in parents:
        place = _enter(place, part, key)
    if isinstance(place, dict) and last.isdecimal():
        raise _no_list(key)
    if isinstance(place, list):
        place[_index(place, last, key)] = value
    else:
        place[last] = value


def _enter(place: Any, part: str, key: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, key)]
    if part.isdecimal():
        raise _no_list(key)
    below = place.setdefault(part, {})
    if below is None:
        below = place[part] = {}
    if not isinstance(below, dict | list):
        raise InputError(f"override {key}: {part} is a value and holds no keys")
    return below


def _no_list(key: str) -> InputError:
    return InputError(
        f"override {key}: the recipe writes no such list; give the whole list, "
        "as in rewards='[{type = \"accuracy\"}]'"
    )


def _index(items: list[Any], part: str, key: str) -> int:
    if not part.isdecimal() or int(part) >= len(items):
        raise InputError(
            f"override {key}: {part!r} is no index of a list with {len(items)} entries (from 0)"
        )
    return int(part)


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def recipe_from_dict(settings: dict[str, Any], *, where: str = "recipe") -> Recipe:
    """Validate `settings` and all that they can become in a run; the first thing that is wrong
    becomes one sentence.
    """
    recipe = validated(settings, where=where)
    try:
        refuse_overlaps(recipe.schedules)
        for cause, changed in prospects(recipe):
            validated(changed, where=cause)
        refuse_combinations(recipe)
        refuse_unknown_metrics(recipe)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    for key, value in _texts(recipe.model_dump(mode="json")):
        if redact(value) != value:
            raise InputError(
                f"{where}: {key} holds what looks like a key, a token or a password, and a recipe "
                "is written to the run folder; take it out and put it into an environment variable"
            )
    return recipe


def validated(settings: dict[str, Any], *, where: str) -> Recipe:
    """The recipe of one moment of a run."""
    try:
        return Recipe.model_validate(settings)
    except ValidationError as error:
        raise InputError(f"{where}: {_sentence(error)}") from None


def _texts(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a resolved recipe, with its dotted key."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(one, f"{path}.{key}" if path else str(key))


def _sentence(error: ValidationError) -> str:
    # An unknown key often causes a second complaint (the mistyped one is "missing"): the key is the
    # cause.
    problem = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    location = problem["loc"]
    model, path, allowed = _resolve(location)
    key = ".".join(path)
    message = _plain(problem["msg"])
    if problem["type"] == "extra_forbidden":
        near = _nearest(str(location[-1]), model)
        return f"unknown key {key}" + (f"; did you mean {near}?" if near else "")
    if not location:
        return message
    if problem["type"].startswith("union_tag"):
        known = list(_kinds(_models_in(allowed)))
        return _kind_sentence(key, known, problem.get("ctx", {}).get("tag"))
    doc = _description(model, path[-1]) if path else ""
    if problem["type"] == "missing":
        return f"{key}: missing" + (f" ({doc})" if doc else "")
    shown = "" if isinstance(problem["input"], dict | list) else f" = {problem['input']!r}"
    return f"{key}{shown}: {message[0].lower()}{message[1:]}" + (f" ({doc})" if doc else "")


def _plain(message: str) -> str:
    """A message of pydantic's in the words of TOML."""
    message = message.removeprefix("Value error, ")
    message = re.sub(r" or instance of \w+| or object to extract fields from", "", message)
    return re.sub(r"\b[Tt]uple\b", "list", message.replace("dictionary", "table"))


def _kind_sentence(key: str, known: list[str], tag: Any) -> str:
    """An entry that comes in kinds, such as a reward, without a known `type`."""
    if tag is None:
        return f"{key}: needs a type; known: {', '.join(known)}"
    close = difflib.get_close_matches(str(tag), known, n=1)
    hint = f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"
    return f'{key}: type "{tag}" unknown; {hint}'


def _kinds(members: list[type[BaseModel]]) -> dict[str, type[BaseModel]]:
    """The members of a tagged union by their tags."""
    return {m.model_fields["type"].default: m for m in members if "type" in m.model_fields}


def _resolve(location: tuple[int | str, ...]) -> tuple[type[BaseModel], list[str], Any]:
    """The model that holds the last part of a pydantic location, the location without the tags of
    unions, and what is allowed to stand there.
    """
    model: type[BaseModel] = Recipe
    kind: Any = Recipe
    path: list[str] = []
    for part in location:
        members = _models_in(kind)
        if isinstance(part, int):
            path.append(str(part))
            continue
        by_tag = {} if isinstance(kind, type) else _kinds(members)
        if part in by_tag:
            model = kind = by_tag[part]
            continue
        if members and not by_tag:
            model = members[0]
        path.append(part)
        field = model.model_fields.get(part)
        kind = field.annotation if field else None
    return model, path, kind


def _models_in(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    if get_origin(kind) is None and not isinstance(kind, types.UnionType):
        return []
    found: list[type[BaseModel]] = []
    for inner in get_args(kind):
        found.extend(_models_in(inner))
    return found


def _nearest(key: str, model: type[BaseModel]) -> str | None:
    """The most similar key of the same section, else one of any section, with its path."""
    here = difflib.get_close_matches(key, model.model_fields, n=1)
    if here:
        return here[0]
    everywhere = {
        name: f"{section}.{name}"
        for section, field in Recipe.model_fields.items()
        for inner in _models_in(field.annotation)
        for name in inner.model_fields
    }
    anywhere = difflib.get_close_matches(key, list(everywhere) + list(Recipe.model_fields), n=1)
    return everywhere.get(anywhere[0], anywhere[0]) if anywhere else None


def _description(model: type[BaseModel], key: str) -> str:
    field = model.model_fields.get(key)
    return (field.description or "") if field else ""
