"""docs/curation.md: its commands are read, its functions run, its table of filters is whole."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from open_rs.curate.filter_stages import STAGES
from open_rs.curate.stages import Drop
from open_rs.problems import Problem
from open_rs.recipe import load_recipe, recipe_from_dict, shipped_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "curation.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+) ?(\S*)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
FILES = {name: text for _, name, text in BLOCKS if name}
RECIPES = sorted(shipped_recipe("quickstart").parent.glob("curate/*.toml"))


def module_of(name: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(FILES[name], name, "exec"), module.__dict__)
    return module


def test_the_source_of_the_page_is_valid() -> None:
    import tomllib

    (text,) = [text for kind, _, text in BLOCKS if kind == "toml"]
    assert recipe_from_dict(tomllib.loads(text)).sources[0].answer_from == "boxed"


def test_every_filter_is_in_the_table() -> None:
    table = PAGE.partition("## Filters")[2].partition("\n\nSettings")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", "".join(cells))) == set(STAGES)


def test_the_local_filter_of_the_page() -> None:
    shouting = module_of("shouting.py").shouting
    rows = [Problem("a", "FIND THE sum", "1"), Problem("b", "Find it", "1")]
    # 7 of 10 letters are capitals
    assert shouting(rows, SimpleNamespace(max_share=0.5)) == [Drop("mostly capitals", "70%"), None]


def test_the_global_filter_of_the_page() -> None:
    stage = module_of("first_words.py").STAGE
    rows = [Problem(str(n), text, "1") for n, text in enumerate(("Find x", "Add y", "find z"))]
    verdicts = stage.decide(stage.features(rows, None), None, None)
    assert verdicts == [None, None, Drop("another begins so", "find")]


def test_the_launchers_of_the_page_are_well_formed() -> None:
    compile(FILES["ray_shards.py"], "ray_shards.py", "exec")
    subprocess.run(["sh", "-n"], input=FILES["slurm.sh"], text=True, check=True)


def test_the_slurm_script_submits_passes_in_order(tmp_path: Path) -> None:
    fake = tmp_path / "sbatch"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> calls\nwc -l < calls\n')
    fake.chmod(0o755)
    (tmp_path / "slurm.sh").write_text(FILES["slurm.sh"])
    subprocess.run(
        ["sh", "slurm.sh", "r.toml", "set", "16"],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        check=True,
    )
    calls = (tmp_path / "calls").read_text().splitlines()
    assert len(calls) == 6
    assert calls[0].startswith("--parsable --array=1-16 --wrap open-rs curate r.toml --out set")
    assert calls[0].endswith("--shard $SLURM_ARRAY_TASK_ID/16")
    assert calls[1].startswith("--parsable --dependency=afterok:1 --wrap")
    assert calls[2].startswith("--parsable --dependency=afterok:2 --array=1-16")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_papers_sets_load(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem and recipe.sources and recipe.filters
    (against,) = [one.against for one in recipe.filters if one.type == "contamination"]
    assert {"aime24", "math500", "amc23", "minerva", "olympiadbench", "gsm8k"} <= set(against)
    if path.stem != "open_rs_small":
        assert "aime25" in against


def test_the_papers_counts_are_expected() -> None:
    counts = {
        path.stem: [one.expect for one in (*recipe.sources, *recipe.filters) if one.expect]
        for path in RECIPES
        for recipe in [load_recipe(path)]
    }
    assert counts["open_s1"] == [59029, 31323, 21533, 18615]
    assert counts["open_deepscaler"] == [40315, 21044]
    mix = load_recipe(shipped_recipe("curate/open_rs_7000"))
    assert mix.curate.expect == sum(mix.filters[-1].counts.values()) == 7000


def test_importing_curation_imports_no_torch() -> None:
    code = "import sys, open_rs.curate.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
