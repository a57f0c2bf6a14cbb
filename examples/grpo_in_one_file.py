"""GRPO in one file: the algorithm box of arXiv 2402.03300 from top to bottom, with nothing hidden.

    python examples/grpo_in_one_file.py                # a minute on two CPU cores
    python examples/grpo_in_one_file.py --steps 5      # a look

A language model of a million parameters thinks about problems such as `Compute (7 + 5) * 3 - 8.`
It is paid 1 for a right answer in \\boxed{} and 0 for anything else; nobody shows it a solution.
Each of the P problems is answered G times; an answer that did better than its own group becomes
likelier, one that did worse becomes less likely. That is all.

The package does the same with care (memory, speed, restarts, grading, statistics): open_rs/train.
The reward printed here is that of training problems; a gain needs held-out ones and an interval.

Letters: P problems a step, G completions per problem, B = P * G rows, T completion tokens,
S prompt + completion tokens, V vocabulary.
"""

import argparse
import copy
import random
import re
import time
from importlib import resources

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from open_rs.tasks.arithmetic import arithmetic_problems

P, G = 8, 8
TEMPERATURE = 1.0  # of sampling; the log-probs below are taken at the same temperature
MAX_COMPLETION_TOKENS = 160
UPDATES = 2  # optimizer steps on each batch of completions; from the second on, ratios leave 1
CLIP = 0.2
KL_COEF = 0.001
LEARNING_RATE = 1e-4
BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--model", default=str(resources.files("open_rs") / "assets" / "tiny"))
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)

    # The policy that learns, and a frozen copy of it that the KL term holds it to.
    tokenizer = AutoTokenizer.from_pretrained(options.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    reference = copy.deepcopy(policy).requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    problems = arithmetic_problems("train", 512, seed=options.seed, levels=(2, 3, 4))
    rng = random.Random(options.seed)
    rewards_so_far: list[float] = []
    started = time.perf_counter()

    for step in range(1, options.steps + 1):
        # 1. Draw problems and put them to the model, each of them G times.
        batch = [problem for problem in rng.sample(problems, P) for _ in range(G)]  # B problems
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": problem.problem}],
                add_generation_prompt=True,
                tokenize=False,
            )
            for problem in batch
        ]
        prompts = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")

        # 2. Sample completions from the policy as it is now: it is pi_old.
        prompt_length = prompts["input_ids"].shape[1]
        ids = policy.generate(
            **prompts,
            do_sample=True,
            temperature=TEMPERATURE,
            top_p=1.0,
            top_k=0,
            max_new_tokens=MAX_COMPLETION_TOKENS,
        )  # [B, S]
        completion_ids = ids[:, prompt_length:]  # [B, T]
        ended = (completion_ids == tokenizer.eos_token_id).cumsum(1)
        # A token counts up to and including the first EOS.
        loss_mask = (ended - (completion_ids == tokenizer.eos_token_id).long()) == 0  # [B, T]
        attention_mask = torch.cat([prompts["attention_mask"], loss_mask.long()], 1)  # [B, S]

        # 3. Reward: 1 if the last box after the thought holds the answer, else 0.
        completions = tokenizer.batch_decode(completion_ids, skip_special_tokens=True)
        answers = [
            (BOXED.findall(text.partition("</think>")[2]) or [None])[-1] for text in completions
        ]
        rewards = torch.tensor(
            [
                float(answer == problem.answer)
                for answer, problem in zip(answers, batch, strict=True)
            ]
        ).view(P, G)

        # 4. Advantage: how much better than its own group, in the group's standard deviations.
        centred = rewards - rewards.mean(1, keepdim=True)
        advantages = (centred / (rewards.std(1, keepdim=True) + 1e-4)).view(P * G, 1)  # [B, 1]

        # 5. Learn. A group whose completions all earned the same has advantage 0: it teaches
        # nothing.
        with torch.no_grad():
            old_logprobs = completion_logprobs(policy, ids, attention_mask, prompt_length)
            ref_logprobs = completion_logprobs(reference, ids, attention_mask, prompt_length)
        for _ in range(UPDATES):
            logprobs = completion_logprobs(policy, ids, attention_mask, prompt_length)  # [B, T]
            ratio = (logprobs - old_logprobs).exp()  # rho = pi / pi_old
            surrogate = torch.minimum(
                ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages
            )
            log_x = ref_logprobs - logprobs
            kl = log_x.exp() - log_x - 1  # k3: not below 0, unbiased
            token_loss = -(surrogate - KL_COEF * kl).where(loss_mask, 0.0)
            loss = (token_loss.sum(1) / loss_mask.sum(1)).mean()  # per sequence, then over B
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()

        # 6. Look. The mean over ten steps, because one step is only P problems.
        rewards_so_far.append(rewards.mean().item())
        recent = rewards_so_far[-10:]
        print(
            f"step {step:3d}  reward {rewards_so_far[-1]:.2f}  "
            f"last {len(recent):2d} steps {sum(recent) / len(recent):.2f}  "
            f"tokens {loss_mask.sum(1).float().mean().item():5.1f}  "
            f"dead groups {int((centred == 0).all(1).sum())}/{P}  "
            f"kl {kl.where(loss_mask, 0.0).sum().item() / loss_mask.sum().item():.4f}  "
            f"{time.perf_counter() - started:4.0f} s",
            flush=True,
        )

    ten = max(1, min(10, options.steps // 2))
    first, last = rewards_so_far[:ten], rewards_so_far[-ten:]
    print(
        f"training reward: first {ten} steps {sum(first) / ten:.2f}, "
        f"last {ten} steps {sum(last) / ten:.2f}"
    )


def completion_logprobs(
    model: torch.nn.Module, ids: torch.Tensor, attention_mask: torch.Tensor, prompt_length: int
) -> torch.Tensor:
    """log pi(token) of the tokens after the prompt: [B, T] from ids and mask [B, S]."""
    positions = (attention_mask.cumsum(1) - 1).clamp(min=0)  # prompts are padded on the left
    output = model(input_ids=ids, attention_mask=attention_mask, position_ids=positions)
    # The logits at one place say what comes at the next.
    logits = output.logits[:, prompt_length - 1 : -1] / TEMPERATURE  # [B, T, V]
    return logits.log_softmax(-1).gather(-1, ids[:, prompt_length:, None]).squeeze(-1)


if __name__ == "__main__":
    main()
