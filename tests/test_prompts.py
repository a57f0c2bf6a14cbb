"""Prompt text: one place, the model's own template, nothing cut."""

import pytest
from transformers import AutoTokenizer

from open_rs.errors import InputError
from open_rs.models import model_path
from open_rs.problems import Problem
from open_rs.prompts import SYSTEM_PROMPTS, Prompter
from open_rs.recipe import PromptRecipe

PLAIN = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture
def tokenizer():
    """The shipped model's tokenizer, fresh, since templates are set on it."""
    return AutoTokenizer.from_pretrained(model_path("tiny"))


@pytest.fixture
def plain(tokenizer):
    tokenizer.chat_template = PLAIN
    return tokenizer


def test_the_shipped_template_opens_the_thought(tokenizer):
    prompter = Prompter(tokenizer, PromptRecipe())
    assert prompter.opens_think
    assert prompter.text("1 + 1").rstrip().endswith("<think>")


@pytest.mark.parametrize(
    ("end", "opens"),
    [
        ("<think>", True),
        ("<think>\\n", True),
        ("<think>\\n\\n</think>\\n\\n", False),
        ("", False),
        ("Use <think> tags.", False),
    ],
)
def test_opens_think_is_about_the_end_of_the_prompt(plain, end, opens):
    plain.chat_template = PLAIN + f"{{{{ '{end}' }}}}"
    assert Prompter(plain, PromptRecipe(user="<think> {problem}")).opens_think is opens


def test_text_is_the_template_with_the_users_turn(plain):
    recipe = PromptRecipe(system="Be brief.", user="Q: {problem}\nAgain: {problem}")
    # braces and Jinja in a problem are text, not placeholders
    assert Prompter(plain, recipe).text("{x} {problem} {{ 1 }} \\boxed{}") == (
        "<system>Be brief.</system>"
        "<user>Q: {x} {problem} {{ 1 }} \\boxed{}\nAgain: {x} {problem} {{ 1 }} \\boxed{}</user>"
        "<assistant>"
    )
    assert Prompter(plain, PromptRecipe()).text("7") == "<user>7</user><assistant>"


@pytest.mark.parametrize("name", SYSTEM_PROMPTS)
def test_named_system_prompts_ask_for_a_thought_and_then_one_boxed_answer(plain, name):
    prompter = Prompter(plain, PromptRecipe(system=name))
    assert prompter.text("7").startswith(f"<system>{SYSTEM_PROMPTS[name]}</system>")
    text = SYSTEM_PROMPTS[name]
    assert text.index("<think>") < text.index("</think>") < text.index("\\boxed{}")
    assert "{{" not in text and "}}" not in text  # what the reference code showed the model


def test_ids_are_those_of_the_whole_text_without_a_second_bos(tokenizer):
    tokenizer.chat_template = "{{ bos_token or '' }}" + PLAIN
    prompter = Prompter(tokenizer, PromptRecipe())
    problem = Problem("a", "What is 12 + 30?", "42")
    prompt = prompter.encode(problem)
    assert prompt.problem is problem
    text = prompter.text(problem.problem)
    assert prompt.prompt_ids == tokenizer.encode(text, add_special_tokens=False)


def test_prompts_over_the_limit_are_counted_and_never_cut(plain):
    problems = [Problem(str(n), "1 + " * n + "1", "0") for n in (1, 30, 2, 40, 3)]
    lengths = [len(Prompter(plain, PromptRecipe()).encode(p).prompt_ids) for p in problems]
    limit = lengths[4]  # exactly at the limit is within it
    prompts, too_long = Prompter(plain, PromptRecipe(max_prompt_tokens=limit)).encode_all(problems)
    assert [prompt.problem.id for prompt in prompts] == ["1", "2", "3"]
    assert [problem.id for problem in too_long] == ["30", "40"]
    assert [len(prompt.prompt_ids) for prompt in prompts] == [lengths[0], lengths[2], lengths[4]]
    shorter = PromptRecipe(max_prompt_tokens=limit - 1)
    assert [p.id for p in Prompter(plain, shorter).encode_all(problems)[1]] == ["30", "40", "3"]


def test_a_truncating_tokenizer_is_not_obeyed(plain):
    plain.model_max_length = 4
    plain.truncation_side = "left"
    prompt = Prompter(plain, PromptRecipe()).encode(Problem("a", "1 + 2 + 3 + 4 + 5 + 6", "21"))
    assert len(prompt.prompt_ids) > 4


def test_the_fingerprint_changes_with_each_part(plain, tmp_path):
    template = tmp_path / "chat.jinja"
    template.write_text(PLAIN + " ")
    recipes = [
        PromptRecipe(),
        PromptRecipe(system="s"),
        PromptRecipe(system="open_rs"),
        PromptRecipe(system="open_rs_english"),
        PromptRecipe(user="{problem}."),
        PromptRecipe(chat_template=str(template)),
    ]
    prints = [Prompter(plain, recipe).fingerprint for recipe in recipes]
    assert len(set(prints)) == len(prints)
    assert Prompter(plain, PromptRecipe()).fingerprint == prints[0]
    # the name of a system prompt and its text make the same prompt
    spelt = PromptRecipe(system=SYSTEM_PROMPTS["open_rs"])
    assert Prompter(plain, spelt).fingerprint == prints[2]


def test_the_fingerprint_sees_the_special_tokens_that_a_template_writes(plain):
    plain.chat_template = "{{ eos_token }}" + PLAIN
    before = Prompter(plain, PromptRecipe()).fingerprint
    plain.eos_token = "<another>"
    assert Prompter(plain, PromptRecipe()).fingerprint != before


def test_a_template_file_counts_before_the_tokenizers_own(plain, tmp_path):
    path = tmp_path / "chat.jinja"
    path.write_text("問 {{ messages[-1].content }} <think>", encoding="utf-8")
    prompter = Prompter(plain, PromptRecipe(chat_template=str(path)))
    assert prompter.text("7") == "問 7 <think>" and prompter.opens_think


def test_a_tokenizer_with_several_templates_uses_its_default(plain):
    plain.chat_template = {"default": PLAIN, "tool_use": "tools"}
    assert Prompter(plain, PromptRecipe()).text("7") == "<user>7</user><assistant>"


def test_no_template_anywhere(tokenizer, tmp_path):
    tokenizer.chat_template = None
    with pytest.raises(InputError, match=r"no chat template; set prompt.chat_template"):
        Prompter(tokenizer, PromptRecipe())
    missing = PromptRecipe(chat_template=str(tmp_path / "none.jinja"))
    with pytest.raises(InputError, match=r"prompt.chat_template .*none.jinja: no such file"):
        Prompter(tokenizer, missing)


def test_a_template_that_refuses_or_is_broken(plain):
    plain.chat_template = (
        "{% if messages[0].role == 'system' %}"
        "{{ raise_exception('System role not supported') }}{% endif %}" + PLAIN
    )
    assert Prompter(plain, PromptRecipe()).text("7")
    with pytest.raises(InputError, match=r"chat template .*System role not supported.*prompt"):
        Prompter(plain, PromptRecipe(system="s"))
    plain.chat_template = "{% if %}"
    with pytest.raises(InputError, match=r"chat template .*cannot be applied"):
        Prompter(plain, PromptRecipe())


def test_a_template_that_drops_the_problem_is_refused(plain):
    plain.chat_template = "{% for m in messages %}<{{ m.role }}>{% endfor %}"
    with pytest.raises(InputError, match=r"chat template .*leaves the problem out"):
        Prompter(plain, PromptRecipe())
