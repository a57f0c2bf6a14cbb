"""The one place where prompt text lives, for curation, training and evaluation alike."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from open_rs.errors import InputError
from open_rs.problems import Problem
from open_rs.recipe import PromptRecipe
from open_rs.rollout.protocol import Message, Prompt

# Named system messages. `open_rs` asks for what the paper's rewards pay for: a thought, then a
# boxed answer.
SYSTEM_PROMPTS = {
    "open_rs": (
        "Think the problem through step by step between <think> and </think>. "
        "Then state the final answer once, inside \\boxed{}."
    ),
    "open_rs_english": (
        "Think the problem through step by step, in English only, between <think> and </think>. "
        "Then state the final answer once, inside \\boxed{}."
    ),
}

JUDGE_SYSTEM = (
    "You check problems that are meant for training a model on mathematics. You never solve them. "
    "You answer with one JSON object and nothing else."
)

# Questions of the curation's judge by name: what is asked, and the answer that keeps a problem.
JUDGE_QUESTIONS = {
    "quality": (
        "Is the problem clear, free of mistakes and complete, with nothing missing such as a "
        "figure, a table or a part of the text?",
        True,
    ),
    "multi_part": (
        "Does the problem ask for several things, each with an answer of its own, such as parts "
        "(a) and (b)?",
        False,
    ),
    "answerable": (
        "Is there exactly one correct answer, and can it be written as a number, an expression, a "
        "set or a short phrase that can be checked?",
        True,
    ),
    "proof": ("Does the problem ask for a proof, an explanation or a drawing?", False),
}


def judge_prompt(questions: Mapping[str, str], max_prompt_tokens: int) -> PromptRecipe:
    """How the judge is asked about a problem; `questions` by name."""
    asked = "\n".join(f'"{name}": {text}' for name, text in questions.items())
    shape = ", ".join(f'"{name}": true or false' for name in questions)
    user = (
        "Here is a problem.\n\n<problem>\n{problem}\n</problem>\n\n"
        f"Answer these questions about it by true (yes) or false (no):\n{asked}\n\n"
        f"Write one JSON object of this form and nothing else: {{{shape}}}"
    )
    return PromptRecipe(system=JUDGE_SYSTEM, user=user, max_prompt_tokens=max_prompt_tokens)


# Named user turns. `final_answer` is the one of the paper's evaluation: lighteval's, after OpenAI's
# simple-evals.
USER_PROMPTS = {
    "final_answer": (
        "Solve the following math problem efficiently and clearly.  The last line of your response "
        "should be of the following format: 'Therefore, the final answer is: $\\boxed{ANSWER}$. I "
        "hope it is correct' (without quotes) where ANSWER is just the final number or expression "
        "that solves the problem. Think step by step before answering.\n\n{problem}"
    ),
}


class Prompter:
    """Turns problems into token ids by the tokenizer's chat template. Needs no torch.

    Attributes:
        opens_think: whether the template itself opens `<think>`, so that a completion must not.
        fingerprint: hash of everything that shapes a prompt; equal where prompts are equal.
        template_hash: hash of the chat template alone; None where a server applies its own.
    """

    template_hash: str | None = None

    def __init__(self, tokenizer: Any, recipe: PromptRecipe) -> None:
        self.tokenizer = tokenizer
        self.recipe = recipe
        self.system = SYSTEM_PROMPTS.get(recipe.system, recipe.system)
        self.template = _chat_template(tokenizer, recipe)
        probe = self._probe("1 + 1")
        self.opens_think = probe.rstrip().endswith("<think>")
        parts = (self.template, self.system, recipe.user, probe)  # the probe: special tokens, too
        self.fingerprint = _fingerprint(parts)
        self.template_hash = _fingerprint((self.template,))

    def messages(self, problem: str) -> tuple[Message, ...]:
        """What is said to the model, before the chat template."""
        asked = {"role": "user", "content": self.recipe.user.replace("{problem}", problem)}
        return ({"role": "system", "content": self.system}, asked) if self.system else (asked,)

    def text(self, problem: str) -> str:
        """The whole prompt as text, up to where the model goes on."""
        return self.tokenizer.apply_chat_template(
            list(self.messages(problem)),
            chat_template=self.template,
            add_generation_prompt=True,
            tokenize=False,
        )

    def _probe(self, problem: str) -> str:
        """The text of a problem by a template that may not work."""
        try:
            text = self.text(problem)
        except TemplateError as error:
            raise InputError(
                f"the chat template cannot be applied ({error}); change prompt.system or give a "
                "Jinja file as prompt.chat_template"
            ) from None
        if problem not in text:
            raise InputError(
                "the chat template leaves the problem out; give a Jinja file as "
                "prompt.chat_template"
            )
        return text

    def encode(self, problem: Problem) -> Prompt:
        text = self.text(problem.problem)
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return Prompt(problem, list(ids), text)

    def encode_all(self, problems: Sequence[Problem]) -> tuple[list[Prompt], list[Problem]]:
        """(prompts within the limit, problems whose prompt is longer): dropped and counted, never
        cut.
        """
        prompts, too_long = [], []
        for problem in problems:
            prompt = self.encode(problem)
            if len(prompt.prompt_ids) <= self.recipe.max_prompt_tokens:
                prompts.append(prompt)
            else:
                too_long.append(problem)
        return prompts, too_long


class ServerPrompter(Prompter):
    """Prompts as messages, for a server that applies a chat template of its own.

    No tokenizer is needed, and lengths in tokens are not known: a prompt that is too long is for
    the server to refuse. `opens_think` is what the recipe says of that template.
    """

    def __init__(self, recipe: PromptRecipe, *, opens_think: bool = False) -> None:
        if recipe.chat_template is not None:
            raise InputError(
                "prompt.chat_template: the server applies its own template in chat mode; remove "
                'the key, or set mode = "completions"'
            )
        self.recipe = recipe
        self.system = SYSTEM_PROMPTS.get(recipe.system, recipe.system)
        self.opens_think = opens_think
        self.fingerprint = _fingerprint(("chat", self.system, recipe.user, str(opens_think)))

    def text(self, problem: str) -> str:
        """The messages for a reader: what the template makes of them is not known here."""
        return "\n\n".join(one["content"] for one in self.messages(problem))

    def encode(self, problem: Problem) -> Prompt:
        return Prompt(problem, [], messages=self.messages(problem.problem))


def _fingerprint(parts: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _chat_template(tokenizer: Any, recipe: PromptRecipe) -> str:
    if recipe.chat_template is not None:
        path = Path(recipe.chat_template)
        if not path.is_file():
            raise InputError(
                f"prompt.chat_template {path}: no such file; give the path of a Jinja template"
            )
        return path.read_text(encoding="utf-8")
    if isinstance(tokenizer.chat_template, dict):
        return tokenizer.get_chat_template()
    if not tokenizer.chat_template:
        raise InputError(
            "the tokenizer has no chat template; set prompt.chat_template to the path of a Jinja "
            "file"
        )
    return tokenizer.chat_template
