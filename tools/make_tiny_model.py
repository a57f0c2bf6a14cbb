"""Train the tiny base model of the quickstart: tokenizer, traces, a Qwen2 of a million weights.

    python tools/make_tiny_model.py --out open_rs/assets/tiny            # train, save, measure
    python tools/make_tiny_model.py --out open_rs/assets/tiny --measure  # measure what is there

It resembles, in small, what the paper (arXiv 2503.16219) starts from: a model distilled on
reasoning traces that solves about half of its problems, thinks at very different lengths, drifts
into a second script and runs into the cap. First come lessons, right traces from which it learns
the single operations. Then a corpus that mixes four styles of thought at random, so that nothing in
a problem tells which one comes; they differ in accuracy and in length, and reinforcement learning
can shift probability between them.
"""

import argparse
import json
import math
import random
import re
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from open_rs.recipe import recipe_from_dict
from open_rs.rollout.build import open_sampler
from open_rs.rollout.protocol import SamplingParams
from open_rs.tasks.arithmetic import (
    MAX_VALUE,
    Expression,
    answer_text,
    apply,
    arithmetic_problems,
    careful_trace,
    draw_expression,
    problem_text,
    split_of,
)

BOS, USER, ASSISTANT, EOS = "<|begin|>", "<|user|>", "<|assistant|>", "<|end|>"
PAD = "<|endoftext|>"  # as in Qwen2, whose tokenizer class would add it otherwise
OPEN, CLOSE = "<think>", "</think>"

# As in DeepSeek-R1-Distill: the system message stands bare at the head, thoughts of earlier turns
# are dropped, and the prompt itself opens the thought.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}"
    "{% elif message.role == 'user' %}<|user|>{{ message.content }}"
    "{% elif message.role == 'assistant' %}"
    "<|assistant|>{{ message.content.split('</think>')[-1].strip() }}{{ eos_token }}"
    "{% else %}{{ raise_exception('role ' ~ message.role ~ ' unknown') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)

SYSTEM_PROMPTS = (
    "Please reason step by step, and put your final answer within \\boxed{}.",
    "You are a helpful assistant.",
    "Solve the problem. Think first, then give the answer in \\boxed{}.",
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves "
    "it. The assistant first thinks about the reasoning process in the mind and then provides the "
    "user with the answer, and presents the answer in LaTeX format: \\boxed{Your answer}. The "
    "reasoning process and answer are enclosed within <think> </think> and <answer> </answer> "
    "tags, respectively, i.e., <think> reasoning process here </think> "
    "<answer> answer here </answer>.",
    "Your role as an assistant is to explore the question step by step and to close the thought "
    "before the final answer. Be brief. Check the result once.",
)
SYSTEM_SHARE = 0.1  # of the traces carry a system message or the same text after the problem

LEVEL_WEIGHTS = {0: 8, 1: 3, 2: 4, 3: 5, 4: 5, 5: 3}
LESSON_WEIGHTS = {0: 4, 1: 3, 2: 2, 3: 2, 4: 1, 5: 1}
MEASURE_LEVELS = (1, 2, 3, 4)

# The styles of thought, their shares and what goes wrong in them.
STYLE_SHARES = {"careful": 0.25, "sloppy": 0.39, "rambling": 0.16, "second_script": 0.20}
SLOPPY_SLIP = 0.30  # an operation gets a wrong result
SECOND_SCRIPT_SLIP = 0.12
NO_BOX = NO_CLOSE = 0.05  # of the sloppy traces
ENDLESS = 0.30  # of the rambling traces never close
MEAN_RECHECKS = 5.0
CAP = 256  # completion tokens when measured
LONGEST = 288  # completion tokens of an endless trace in the corpus

NUMERALS = "零一二三四五六七八九"
SIGNS = {"+": "加", "-": "减", "*": "乘"}


def chinese(number: int) -> str:
    """0..99 in Chinese numerals: 12 is 十二, 36 is 三十六."""
    tens, ones = divmod(number, 10)
    head = "" if tens == 0 else "十" if tens == 1 else NUMERALS[tens] + "十"
    return head + (NUMERALS[ones] if ones or not tens else "")


def with_slips(expression: Expression, rng: random.Random, probability: float) -> Expression:
    """The steps with natural slips: off by one or ten, or another sign; the error is carried on."""
    steps = []
    carried: int | None = None  # the wrong value that replaces the right one from the last step
    right_value: int | None = None
    for left, sign, right, result in expression.steps:
        if carried is not None:
            left, right = (carried, right) if left == right_value else (left, carried)
        right_value = result
        value = apply(left, sign, right)
        if rng.random() < probability:
            other = apply(left, rng.choice("+-*"), right)
            value = rng.choice((value - 1, value + 1, value - 10, value + 10, other))
        value = min(max(value, 0), MAX_VALUE)
        steps.append((left, sign, right, value))
        carried = value
    return Expression(expression.text, tuple(steps))


def sloppy_trace(expression: Expression, rng: random.Random) -> str:
    """Results without their operations, every second one left out."""
    results = [step[3] for step in expression.steps]
    keep = rng.randint(0, 1)
    shown = [value for i, value in enumerate(results[:-1]) if i % 2 == keep] + results[-1:]
    return "Quickly: " + ", ".join(map(str, shown))


def second_script_trace(expression: Expression) -> str:
    return "，".join(
        f"{chinese(left)}{SIGNS[sign]}{chinese(right)}得{chinese(result)}"
        for left, sign, right, result in expression.steps
    )


def rambling_trace(expression: Expression, rng: random.Random) -> Iterator[str]:
    """Line after line; each step is checked again and again. Endless unless the caller stops."""
    lines = careful_trace(expression).split("\n")
    yield "Let me see:"
    yield from lines
    while True:
        yield rng.choice(("Wait, check: ", "Hmm, again: ")) + rng.choice(lines)


@dataclass(frozen=True)
class Trace:
    style: str
    completion: str
    closed: bool  # ends with the end token


def draw_trace(expression: Expression, rng: random.Random) -> Trace:
    """A completion after the opening tag, in a style that the problem does not reveal."""
    single = len(expression.steps) == 1  # one operation: nothing to skip, no reason to slip
    style = rng.choices(list(STYLE_SHARES), list(STYLE_SHARES.values()))[0]
    if style == "careful":
        return Trace(style, finished(careful_trace(expression), expression.value), True)
    if style == "second_script":
        slipped = with_slips(expression, rng, 0 if single else SECOND_SCRIPT_SLIP)
        return Trace(style, finished(second_script_trace(slipped), slipped.value), True)
    if style == "sloppy":
        slipped = with_slips(expression, rng, 0 if single else SLOPPY_SLIP)
        text = finished(sloppy_trace(slipped, rng), slipped.value)
        fault = 1.0 if single else rng.random()
        if fault < NO_BOX:
            text = text.replace(answer_text(str(slipped.value)), f"The answer is {slipped.value}.")
        elif fault < NO_BOX + NO_CLOSE:
            text = text.replace(f"{CLOSE}\n\n", "")
        return Trace(style, text, True)
    endless = not single and rng.random() < ENDLESS
    mean = 1 if single else MEAN_RECHECKS
    rechecks = LONGEST // 6 if endless else int(rng.expovariate(1 / mean))
    lines = rambling_trace(expression, rng)
    thought = "\n".join(next(lines) for _ in range(1 + len(expression.steps) + rechecks))
    return Trace(style, thought if endless else finished(thought, expression.value), not endless)


def draw_lesson(expression: Expression, rng: random.Random) -> Trace:
    """A right completion, one operation a line: the single operations are learned from these."""
    style = rng.choices(("careful", "second_script"), (0.7, 0.3))[0]
    trace = careful_trace if style == "careful" else second_script_trace
    return Trace(style, finished(trace(expression), expression.value), True)


def finished(thought: str, value: int) -> str:
    return f"{thought}\n{CLOSE}\n\n{answer_text(str(value))}"


def draw_messages(expression: Expression, rng: random.Random) -> list[dict[str, str]]:
    """The problem as a chat, at times with a system message or an instruction after the problem."""
    text = problem_text(expression)
    if rng.random() >= SYSTEM_SHARE:
        return [{"role": "user", "content": text}]
    prompt = rng.choice(SYSTEM_PROMPTS)
    if rng.random() < 0.4:  # a shuffled selection of sentences, so that no text is learned by heart
        sentences = [part for one in SYSTEM_PROMPTS for part in one.split(". ")]
        prompt = ". ".join(rng.sample(sentences, rng.randint(1, 4)))
    if rng.random() < 0.3:
        return [{"role": "user", "content": f"{text}\n{prompt}"}]
    return [{"role": "system", "content": prompt}, {"role": "user", "content": text}]


def draw_training_expression(
    rng: random.Random, weights: dict[int, int] = LEVEL_WEIGHTS
) -> Expression:
    while True:
        level = rng.choices(list(weights), list(weights.values()))[0]
        expression = draw_expression(rng, level)
        if split_of(expression.text) == "train":
            return expression


@dataclass(frozen=True)
class Example:
    ids: list[int]
    prompt_length: int


def train_tokenizer(rng: random.Random) -> Qwen2Tokenizer:
    """Byte-level BPE under Qwen2's own pre-tokenizer, so that AutoTokenizer, which puts that one in
    for every Qwen2 folder, reads it as it was trained. A number of two digits is one token.
    """
    corpus = list(SYSTEM_PROMPTS) * 3
    for _ in range(3000):
        expression = draw_training_expression(rng)
        corpus += [problem_text(expression), draw_trace(expression, rng).completion]
    signs = [f" {sign} " for sign in "+-*="]
    whole = [OPEN, CLOSE, *signs, *map(str, range(10, 100)), *NUMERALS, *SIGNS.values(), *"十得，"]
    backend = Qwen2Tokenizer().backend_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=512 - len(whole),
        min_frequency=3,
        show_progress=False,
        special_tokens=[PAD, EOS, BOS, USER, ASSISTANT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    cut = re.compile("|".join(map(re.escape, sorted(whole, key=len, reverse=True))))
    backend.train_from_iterator([part for text in corpus for part in cut.split(text)], trainer)
    learned = json.loads(backend.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=[tuple(pair) for pair in learned["merges"]],
        unk_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=1024,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [USER, ASSISTANT]})
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in whole])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def check_tokenizer(folder: Path, examples: list[Example]) -> None:
    """AutoTokenizer must give the ids that the model was trained on."""
    read = AutoTokenizer.from_pretrained(folder)
    for example in examples[:: len(examples) // 1000 + 1]:
        if read.encode(read.decode(example.ids), add_special_tokens=False) != example.ids:
            raise SystemExit(f"{folder}: AutoTokenizer reads this tokenizer in another way")


def build_model(tokenizer: Qwen2Tokenizer) -> Qwen2ForCausalLM:
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        use_cache=True,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def draw_example(tokenizer: Qwen2Tokenizer, rng: random.Random, lesson: bool) -> Example:
    if lesson:
        expression = draw_training_expression(rng, LESSON_WEIGHTS)
        messages = [{"role": "user", "content": problem_text(expression)}]
        trace = draw_lesson(expression, rng)
    else:
        expression = draw_training_expression(rng)
        messages, trace = draw_messages(expression, rng), draw_trace(expression, rng)
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
    ids = tokenizer.encode(trace.completion, add_special_tokens=False)
    ids = [*ids, tokenizer.eos_token_id] if trace.closed else ids[:LONGEST]
    return Example(prompt_ids + ids, len(prompt_ids))


def batches(examples: list[Example], tokens: int, rng: random.Random) -> list[list[Example]]:
    """Batches of at most `tokens` padded tokens, of like length, in random order."""
    found: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda one: (len(one.ids), rng.random())):
        if found[-1] and (len(found[-1]) + 1) * len(example.ids) > tokens:
            found.append([])
        found[-1].append(example)
    rng.shuffle(found)
    return found


def make_optimizers(model: Qwen2ForCausalLM, peak: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, which learns these traces several times faster than AdamW does;
    AdamW for embeddings, norms and biases.
    """
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    return [
        torch.optim.Muon(inner, lr=peak, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=peak / 2, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def train(model: Qwen2ForCausalLM, todo: list[list[Example]], peak: float) -> None:
    """Constant rate, then linearly to 0 over the last half; loss on completion tokens alone."""
    optimizers = make_optimizers(model, peak)
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    peaks = [group["lr"] for group in groups]
    start = time.monotonic()
    model.train()
    losses = []
    for step, batch in enumerate(todo, start=1):
        rate = min(step / 50, 1, 2 * (1 - step / len(todo)) + 0.01)
        for group, full in zip(groups, peaks, strict=True):
            group["lr"] = full * rate
        length = max(len(one.ids) for one in batch)
        ids = torch.full((len(batch), length), 0)
        labels = torch.full((len(batch), length), -100)
        for row, one in enumerate(batch):
            end = len(one.ids)
            ids[row, :end] = torch.tensor(one.ids)
            labels[row, one.prompt_length : end] = ids[row, one.prompt_length : end]
        # Rows are padded on the right, so the causal mask alone keeps padding out.
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step % 100 == 0 or step == len(todo):
            seconds = time.monotonic() - start
            mean = statistics.fmean(losses[-100:])
            print(f"step {step}/{len(todo)}  loss {mean:.4f}  {seconds:.0f} s", flush=True)
    model.eval()


def has_second_script(text: str) -> bool:
    return any("\u4e00" <= char <= "\u9fff" for char in text)


def measure(
    folder: Path,
    levels: tuple[int, ...],
    num_problems: int,
    num_samples: int,
    *,
    seed: int,
    system: str = "",
) -> dict[str, float | int | str]:
    """Scores and lengths over `num_problems` test problems, `num_samples` completions of each, at
    temperature 1, by the engine and the grader of the package.
    """
    problems = arithmetic_problems("test", num_problems, seed=seed, levels=levels)
    recipe = recipe_from_dict({"model": {"path": str(folder)}, "prompt": {"system": system}})
    with open_sampler(recipe) as sampler:
        prompts, _ = sampler.prompter.encode_all(problems)
        groups = sampler.sample(
            prompts, group_size=num_samples, params=SamplingParams(CAP), seed=seed
        )
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    solved = [
        statistics.fmean(r.grade is not None and r.grade.correct for r in group.rollouts)
        for group in groups
    ]
    lengths = sorted(len(rollout.completion_ids) for rollout in rollouts)
    shares = {
        "at_cap": [rollout.finish_reason == "length" for rollout in rollouts],
        "second_script": [has_second_script(rollout.completion) for rollout in rollouts],
        "no_answer": [r.grade is not None and r.grade.outcome == "no_answer" for r in rollouts],
    }
    return {
        "levels": ", ".join(map(str, levels)),
        "num_problems": num_problems,
        "num_samples": num_samples,
        "seed": seed,
        "pass@1": round(statistics.fmean(solved), 4),
        "pass@1_standard_error": round(statistics.stdev(solved) / math.sqrt(num_problems), 4),
        f"pass@{num_samples}": round(statistics.fmean(rate > 0 for rate in solved), 4),
        "solved_every_time": round(statistics.fmean(rate == 1 for rate in solved), 4),
        "length_mean_tokens": round(statistics.fmean(lengths), 1),
        "length_median_tokens": statistics.median(lengths),
        "length_p95_tokens": lengths[int(0.95 * len(lengths))],
    } | {f"{name}_frac": round(statistics.fmean(share), 4) for name, share in shares.items()}


def measure_all(folder: Path, num_problems: int, num_samples: int, seed: int) -> dict:
    sizes = {"num_samples": num_samples, "seed": seed}
    measured = {
        "quickstart": measure(folder, MEASURE_LEVELS, num_problems, **sizes),
        "trivial": measure(folder, (0,), 10, **sizes),
        "with_system_prompt": measure(
            folder, MEASURE_LEVELS, num_problems // 2, system=SYSTEM_PROMPTS[0], **sizes
        ),
    }
    for level in (*MEASURE_LEVELS, 5):
        measured[f"level {level}"] = measure(folder, (level,), num_problems // 4, **sizes)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--measure", action="store_true", help="only measure the model in --out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lessons", type=int, default=60_000)
    parser.add_argument("--examples", type=int, default=36_000)
    parser.add_argument("--batch-tokens", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--num-problems", type=int, default=200)
    parser.add_argument("--num-samples", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if not args.measure:
        rng = random.Random(args.seed)
        torch.manual_seed(args.seed)
        tokenizer = train_tokenizer(rng)
        model = build_model(tokenizer)
        print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens", flush=True)
        lessons = [draw_example(tokenizer, rng, lesson=True) for _ in range(args.lessons)]
        examples = [draw_example(tokenizer, rng, lesson=False) for _ in range(args.examples)]
        tokens = sum(len(example.ids) for example in lessons + examples)
        print(f"corpus of {tokens:,} tokens drawn", flush=True)
        todo = batches(lessons, args.batch_tokens, rng) + batches(examples, args.batch_tokens, rng)
        train(model, todo, args.learning_rate)
        args.out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(args.out)
        tokenizer.save_pretrained(args.out)
        check_tokenizer(args.out, lessons + examples)
    measured = measure_all(args.out, args.num_problems, args.num_samples, args.seed)
    text = json.dumps(measured, indent=2)
    print(text)
    (args.out / "measured.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
