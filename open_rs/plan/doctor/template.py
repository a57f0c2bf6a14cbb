"""The chat template: what becomes of a problem on its way to the model."""

import re

from open_rs.errors import InputError
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.doctor.tokenizer import ends, ids_of

PROBLEM = r'Let $a < b & c > "d"$ and \frac{1}{2} {{ x }}'  # what a template may take for its own
MARK = re.compile(r"<\|[^|<>\s]{1,40}\|>|<(?:start|end)_of_turn>|\[/?INST\]")
ANSWER = "forty-two"


def renders(subject: Subject) -> Verdict:
    """The template turns a problem into a prompt."""
    ids = ids_of(subject.tokenizer, subject.prompter.text(PROBLEM))
    return ok(f"{len(ids)} tokens for a short problem")


def problem_intact(subject: Subject) -> Verdict:
    """The problem stands in the prompt as it was written."""
    if PROBLEM not in subject.prompter.text(PROBLEM):
        return fail(
            f"{PROBLEM!r} is changed by the template",
            "give a Jinja file as prompt.chat_template that puts message.content in as it is",
        )
    return ok("as it was written")


def system(subject: Subject) -> Verdict:
    """The system message stands in the prompt."""
    prompter = subject.prompter
    if not prompter.system:
        return skipped("the recipe has no system message")
    if prompter.system.strip() not in prompter.text(PROBLEM):
        return fail(
            "the template leaves the system message out",
            "put it into prompt.user, or give a Jinja file as prompt.chat_template",
        )
    return ok(f"{len(prompter.system)} characters")


def generation_prompt(subject: Subject) -> Verdict:
    """The prompt ends where the model's turn begins."""
    prompter = subject.prompter
    if prompter.text(PROBLEM) == render(subject, generation_prompt=False):
        return warn(
            "the template minds no add_generation_prompt, so the model has to open its own turn",
            "give a Jinja file as prompt.chat_template that opens the assistant's turn",
        )
    return ok(repr(prompter.text(PROBLEM)[-20:]))


def render(subject: Subject, answer: str = "", *, generation_prompt: bool = True) -> str:
    """The conversation by the template, with the model's turn where an `answer` is given."""
    said = [*subject.prompter.messages(PROBLEM)]
    if answer:
        said.append({"role": "assistant", "content": answer})
    return str(
        subject.tokenizer.apply_chat_template(
            said,
            chat_template=subject.prompter.template,
            add_generation_prompt=generation_prompt,
            tokenize=False,
        )
    )


def thought(subject: Subject) -> Verdict:
    """The template does not close the thought before the model has begun it."""
    text = subject.prompter.text(PROBLEM)
    tail = text[text.rindex(PROBLEM) :] if PROBLEM in text else text
    if tail.count("</think>") > 0:
        return warn(
            "the prompt ends with a thought that is closed: the model is asked not to think",
            "give a Jinja file as prompt.chat_template that leaves it out",
        )
    opens = subject.prompter.opens_think
    return ok("it opens <think>" if opens else "the model opens <think> itself")


def bos(subject: Subject) -> Verdict:
    """A prompt begins with one BOS token, where the tokenizer puts one before a text."""
    tokenizer = subject.tokenizer
    if tokenizer.bos_token_id is None:
        return skipped("the tokenizer has no BOS token")
    ids = ids_of(subject.tokenizer, subject.prompter.text(PROBLEM))
    if ids[:2] == [tokenizer.bos_token_id] * 2:
        return warn(
            f"the prompt begins with two BOS tokens ({tokenizer.bos_token!r})",
            "take it out of the template",
        )
    usual = list(tokenizer("a")["input_ids"])
    if usual[:1] == [tokenizer.bos_token_id] and ids[:1] != usual[:1]:
        return warn(
            f"the tokenizer begins a text with {tokenizer.bos_token!r}, and the template does not",
            "put {{ bos_token }} at the start of the template",
        )
    return ok("one" if ids[:1] == [tokenizer.bos_token_id] else "none, as the tokenizer has it")


def marks(subject: Subject) -> Verdict:
    """The marks of the template, such as <|im_start|>, are tokens of this tokenizer."""
    found = sorted(set(MARK.findall(render(subject, ANSWER))))
    split = [one for one in found if len(ids_of(subject.tokenizer, one)) > 1]
    if split:
        return warn(
            f"{split[0]!r} of the template is no token of this tokenizer but "
            f"{len(ids_of(subject.tokenizer, split[0]))}: it is another model's template",
            "give the model's own template as prompt.chat_template",
        )
    return ok(", ".join(found) or "no marks")


def round_trip(subject: Subject) -> Verdict:
    """A prompt that is encoded and decoded again is the same prompt."""
    text = subject.prompter.text("1 + 1")
    back = subject.tokenizer.decode(ids_of(subject.tokenizer, text))
    if back != text:
        return warn(
            f"the prompt {text[:60]!r} comes back as {back[:60]!r}",
            "take what the tokenizer loses out of the template",
        )
    return ok(f"{len(text)} characters")


def turn_ends(subject: Subject) -> Verdict:
    """The mark that ends the model's turn in the template ends a completion, too."""
    try:
        text = render(subject, ANSWER, generation_prompt=False)
    except Exception as error:  # a template may take no answer at all
        raise InputError(
            f"the template takes no turn of the assistant ({error}); give one"
        ) from None
    if ANSWER not in text:
        return skipped("the template leaves the model's turn out")
    after = ids_of(subject.tokenizer, text[text.rindex(ANSWER) + len(ANSWER) :])
    special = [one for one in after if one in set(subject.tokenizer.all_special_ids)]
    if special and not set(special) & set(ends(subject)):
        token = subject.tokenizer.convert_ids_to_tokens(special[0])
        return warn(
            f"the template ends the model's turn with {token!r}, which is no EOS token: "
            "completions run on to the cap",
            f"name {token!r} in eos_token_id of generation_config.json",
        )
    return ok("it does" if special else "the template ends no turn by a special token")


def date(subject: Subject) -> Verdict:
    """The prompt is the same tomorrow: no date of the day is in it."""
    if "strftime_now" in subject.prompter.template:
        return warn(
            "the template writes the date of the day into every prompt: runs of two days differ",
            "give a Jinja file as prompt.chat_template with a fixed date",
        )
    return ok("no date")


CHECKS = (
    Check("template.renders", renders, needs=("tokenizer.loads",)),
    Check("template.problem", problem_intact, needs=("template.renders",)),
    Check("template.system", system, needs=("template.renders",)),
    Check("template.turn_begins", generation_prompt, needs=("template.renders",)),
    Check("template.turn_ends", turn_ends, needs=("template.renders", "tokenizer.eos")),
    Check("template.thought", thought, needs=("template.renders",)),
    Check("template.bos", bos, needs=("template.renders",)),
    Check("template.marks", marks, needs=("template.renders",)),
    Check("template.round_trip", round_trip, needs=("template.renders",)),
    Check("template.date", date, needs=("template.renders",)),
)
