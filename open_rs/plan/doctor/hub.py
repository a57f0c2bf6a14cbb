"""What of the Hugging Face hub lies on this machine. Nothing is fetched."""

from pathlib import Path

from open_rs.errors import InputError
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.recipe import Recipe, Source


def local_folder(path: str, revision: str | None) -> Path:
    """The folder of a model: itself, or its snapshot in the cache. InputError where it is in
    neither.
    """
    from open_rs.models import check_found, model_path

    check_found(model_path(path))
    place = Path(model_path(path))
    if place.is_dir():
        return place
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(path, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise InputError(
            f"model.path {path}: not in the cache of the hub; hf download {path}"
        ) from None


def is_cached(dataset: str) -> bool:
    """Whether a data set of the hub, or what `datasets` made of it, lies in the caches."""
    from datasets import config
    from huggingface_hub import constants

    raw = Path(constants.HF_HUB_CACHE) / f"datasets--{dataset.replace('/', '--')}"
    made = Path(config.HF_DATASETS_CACHE) / dataset.replace("/", "___")
    return raw.is_dir() or made.is_dir()


def is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def hub_sources(recipe: Recipe) -> list[str]:
    """The data sets of the hub that a recipe names; a folder given as `hub` is none."""
    stated: list[Source] = [*recipe.sources, *recipe.data.held_out.values()]
    stated += [] if recipe.data.train is None else [recipe.data.train]
    names = [one.hub for one in stated if one.hub is not None and not Path(one.hub).is_dir()]
    return list(dict.fromkeys(names))


def hub_data(subject: Subject) -> Verdict:
    """The data sets of the hub that the recipe names are in its cache, or can be fetched."""
    names = hub_sources(subject.recipe)
    if not names:
        return skipped("the recipe names no data set of the hub")
    missing = [name for name in names if not is_cached(name)]
    if not missing:
        return ok(f"in the cache: {', '.join(names)}; their rows are not read here")
    told = f"not in the cache: {', '.join(missing)}"
    cure = f"hf download --repo-type dataset {missing[0]}, or give its files as path"
    if is_offline():
        return fail(f"{told}, and HF_HUB_OFFLINE lets nothing be fetched", cure)
    return warn(f"{told}: they will be fetched at the start", cure)


CHECKS = (Check("hub.data", hub_data),)
