"""The sections of a recipe. A recipe states only what differs from these defaults."""

from typing import Literal, Self

from pydantic import Field, model_validator

from open_rs.recipe.engines import EngineSpec, NativeEngineSpec
from open_rs.recipe.filters import FilterSpec
from open_rs.recipe.model import ModelRecipe
from open_rs.recipe.rewards import AccuracyReward, FormatReward, RewardSpec, Script
from open_rs.recipe.schedules import Schedule, SentinelRecipe
from open_rs.recipe.search import BeamSearch
from open_rs.recipe.section import Section
from open_rs.recipe.sources import Source
from open_rs.recipe.sweep import SweepRecipe

DEFAULT_IMPORTANCE_CAP = 2.0  # where the engine holds a copy of the weights, or older ones


class PromptRecipe(Section):
    """How a problem is put to the model, in training, curation and evaluation alike."""

    system: str = Field(
        "",
        description='system message, or the name of one such as "open_rs"; empty: none',
    )
    user: str = Field("{problem}", description="user turn; {problem} is replaced")
    chat_template: str | None = Field(
        None, description="path of a Jinja template; else the tokenizer's own"
    )
    max_prompt_tokens: int = Field(
        512, ge=1, description="longer prompts are dropped and counted, never cut"
    )

    @model_validator(mode="after")
    def holds_problem(self) -> Self:
        if "{problem}" not in self.user:
            raise ValueError("user must contain {problem}, which the problem replaces")
        return self


class CurateRecipe(Section):
    """What is expected of curation; `sources` and `filters` say what it does."""

    expect: int | None = Field(
        None, ge=0, description="problems that a paper says are left: compared, never enforced"
    )


class DataRecipe(Section):
    """The sets that training and evaluation read. `open-rs curate` writes the first of them."""

    train: Source | None = Field(
        None, description="training problems; without it, those that curate wrote to the run"
    )
    validation: Source | None = Field(
        None, description="held out: scored in training, picks the checkpoint"
    )
    test: Source | None = Field(
        None, description="held out: scored before and after, never picks anything"
    )

    min_pass_rate: float = Field(
        0.0, ge=0, le=1, description="train on problems whose curated pass rate is at least this"
    )
    max_pass_rate: float = Field(
        1.0, ge=0, le=1, description="train on problems whose curated pass rate is at most this"
    )
    select: Literal["stream", "history"] = Field(
        "stream",
        description="problems in turn, all or without those that their groups so far show as dead",
    )
    explore: float = Field(
        0.05, gt=0, le=1, description="probability that a dead problem is taken all the same"
    )
    half_life: float = Field(
        200.0, gt=0, description="steps after which an outcome counts half in the history"
    )

    @property
    def held_out(self) -> dict[str, Source]:
        """The held-out sets that are stated, by name."""
        named = {"validation": self.validation, "test": self.test}
        return {name: source for name, source in named.items() if source is not None}


class RolloutRecipe(Section):
    """Sampling in training; curation and evaluation use the same engine."""

    engine: EngineSpec = Field(
        NativeEngineSpec(),
        description="native; vllm in this process; vllm_server for servers of vLLM; openai for an "
        "endpoint, which cannot be trained",
    )
    group_size: int = Field(
        8, ge=2, description="completions per prompt (G); an advantage compares within a group"
    )
    screen_size: int | None = Field(
        None,
        ge=2,
        description="completions of a prompt drawn first; the others of its group only where the "
        "rewards of these differ",
    )
    prompts_per_step: int = Field(8, ge=1, description="prompts per rollout batch (P)")
    max_completion_tokens: int = Field(
        1024, ge=1, description="a completion is stopped at this many tokens"
    )
    temperature: float = Field(
        1.0, gt=0, le=10, description="of sampling; training divides the logits by it too"
    )
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1 is off")
    top_k: int = Field(0, ge=0, description="most probable tokens only; 0 is off")
    max_slots: int = Field(
        64, ge=1, description="rows decoded side by side: memory and speed, never the text"
    )
    staleness: int = Field(
        0,
        ge=0,
        le=1,
        description="rollout batches by which the weights that draw lie behind those that learn; "
        "1: servers of vLLM draw the next batch while this one is learnt",
    )
    exact: bool = Field(
        False,
        description="sampling and training give a token the same log-prob, to the last bit; on a "
        "CPU in float32, with the native engine",
    )

    @model_validator(mode="after")
    def screen_is_part_of_the_group(self) -> Self:
        if self.screen_size is not None and self.screen_size >= self.group_size:
            raise ValueError(
                f"screen_size = {self.screen_size} must be below group_size = {self.group_size}"
            )
        return self


class GradeRecipe(Section):
    """The one grader."""

    timeout_s: float = Field(
        5.0, gt=0, description="a verdict that takes longer is `timeout`, and counts neither way"
    )
    workers: int = Field(1, ge=1, description="grading processes")
    unboxed_numbers: bool = Field(
        False, description="the last number counts as the answer where there is no box at all"
    )


class LossRecipe(Section):
    """The GRPO family by parameters; the defaults are GRPO (arXiv 2402.03300) without KL.

    DAPO: clip_high 0.28, loss_norm "token", dynamic_sampling, an overlong reward.
    Dr. GRPO: advantage_scale "none", loss_norm "constant".
    GSPO: ratio_level "sequence", clips near 3e-4. CISPO: objective "cispo".
    """

    advantage_scale: Literal["group_std", "none"] = Field(
        "group_std", description="divide advantages by the group's std"
    )
    clip_low: float = Field(
        0.2, ge=0, lt=1, description="the ratio is clipped below at 1 - clip_low"
    )
    clip_high: float = Field(0.2, ge=0, description="the ratio is clipped above at 1 + clip_high")
    objective: Literal["clip", "cispo"] = Field(
        "clip", description="clip the surrogate (PPO), or the weight (CISPO)"
    )
    ratio_level: Literal["token", "sequence"] = Field(
        "token", description="importance ratio per token or sequence (GSPO)"
    )
    loss_norm: Literal["sequence", "token", "constant"] = Field(
        "sequence",
        description="mean per sequence (GRPO), over all tokens (DAPO), or over B x the cap (Dr. "
        "GRPO)",
    )
    kl_coef: float = Field(
        0.0, ge=0, description="weight of the k3 KL against the frozen start; 0 loads no reference"
    )
    importance_cap: float | None = Field(
        None,
        ge=0,
        description="tokens are weighed by min(trainer's probability / engine's, this), so that an "
        "engine with rounding of its own, or older weights, is made up for; 0 is off; unset: 2 for "
        "vllm and with rollout.staleness, off for the native engine",
    )
    mask_truncated: bool = Field(
        False, description="leave completions that hit the cap out of the loss"
    )
    dynamic_sampling: bool = Field(
        False,
        description="refill groups without signal by new prompts (DAPO), up to max_refills "
        "batches a step",
    )
    max_refills: int = Field(3, ge=1, description="bound of dynamic sampling")
    oversample: bool = Field(
        False,
        description="dynamic sampling draws so many prompts that no refill is to be expected",
    )

    @model_validator(mode="after")
    def only_dynamic_sampling_oversamples(self) -> Self:
        if self.oversample and not self.dynamic_sampling:
            raise ValueError("oversample is a way of dynamic_sampling; set that to true as well")
        return self


class TrainRecipe(Section):
    """The optimizer and its schedule; saves."""

    num_steps: int = Field(500, ge=1, description="optimizer updates")
    updates_per_batch: int = Field(1, ge=1, description="optimizer updates on each rollout batch")
    learning_rate: float = Field(1e-6, gt=0, description="peak of the cosine schedule")
    min_lr_ratio: float = Field(
        0.1, ge=0, le=1, description="the schedule ends at this share of the peak"
    )
    warmup_ratio: float = Field(
        0.1, ge=0, lt=1, description="share of the steps in which the rate rises linearly"
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        "adamw",
        description="adamw_8bit: its moments in a quarter of the memory, by torchao, which is "
        "installed apart",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.999, ge=0, lt=1, description="AdamW")
    weight_decay: float = Field(0.0, ge=0, description="AdamW")
    max_grad_norm: float = Field(1.0, gt=0, description="the gradient is scaled down to this norm")
    micro_batch_tokens: int = Field(
        8192, ge=1, description="tokens per forward: memory only, never the maths"
    )
    sharding: Literal["none", "full"] = Field(
        "none",
        description="what each rank of a job on several devices holds: all weights, gradients and "
        "moments, or a share of them (FSDP2); a process by itself holds all",
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto",
        description="recompute activations: less memory, a third more time; auto: where the "
        "largest micro-batch would not fit into the device otherwise",
    )
    save_every: int = Field(
        50, ge=1, description="steps between checkpoints; the last step is always saved"
    )
    keep_last: int | None = Field(
        None, ge=1, description="newest checkpoints that are kept; without it, all"
    )
    keep_every: int | None = Field(
        None, ge=1, description="checkpoints of multiples of this step are kept as well"
    )
    rehearse: bool | None = Field(
        None, description="try the largest micro-batch before the first step; without it, on CUDA"
    )
    trackers: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = Field(
        (), description="experiment trackers that get the metrics as well"
    )
    max_nonfinite_steps: int = Field(
        5, ge=1, description="stop after so many steps in a row without a finite gradient"
    )

    @property
    def recomputes(self) -> bool:
        """Activations are recomputed; "auto" that nobody has decided yet keeps them."""
        return self.gradient_checkpointing is True


class BudgetRecipe(Section):
    """What a run may cost, over all its starts: it saves and stops before a cap is passed."""

    hours: float | None = Field(None, gt=0, description="cap on the hours that the device is held")
    usd: float | None = Field(None, gt=0, description="cap on the cost in dollars")
    usd_per_hour: float | None = Field(
        None, gt=0, description="price of the device; without it, the table's where it is known"
    )


class EvaluateRecipe(Section):
    """Held-out scores."""

    num_samples: int = Field(4, ge=1, description="completions per test problem (k)")
    validation_samples: int = Field(4, ge=1, description="completions per validation problem")
    every: int = Field(
        50, ge=1, description="steps between validation scores; each comes with a checkpoint"
    )
    temperature: float = Field(0.6, ge=0, le=10, description="of sampling; 0 is greedy")
    top_p: float = Field(0.95, gt=0, le=1, description="nucleus; 1 is off")
    top_k: int = Field(0, ge=0, description="most probable tokens only; 0 is off")
    max_completion_tokens: int | None = Field(
        None, ge=1, description="without it, the cap of training"
    )
    seed: int = Field(0, description="seed of the evaluation's samples, apart from training's")
    confidence: float = Field(0.95, ge=0.9, lt=1, description="of the intervals")
    scripts: tuple[Script, ...] = Field(
        ("latin",), min_length=1, description="expected; the share of letters in others is reported"
    )
    search: BeamSearch | None = Field(
        None,
        description='test problems and benchmarks are answered by a search, as in { type = "beam", '
        "width = 4 }, in place of samples; validation is not",
    )
    completion_ids: bool = Field(False, description="write the token ids into the records, too")


class Recipe(Section):
    """A whole pipeline: curate -> plan -> train -> evaluate -> report."""

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$", description="the run folder is runs/NAME"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="of rollouts and of the order of problems")
    threads: int | None = Field(
        None, ge=1, description="CPU threads of torch; the default is torch's own choice"
    )
    model: ModelRecipe = ModelRecipe()
    prompt: PromptRecipe = PromptRecipe()
    sources: tuple[Source, ...] = Field((), description="raw problems that curate reads")
    filters: tuple[FilterSpec, ...] = Field((), description="what curate applies, in this order")
    curate: CurateRecipe = CurateRecipe()
    data: DataRecipe = DataRecipe()
    rollout: RolloutRecipe = RolloutRecipe()
    grade: GradeRecipe = GradeRecipe()
    rewards: tuple[RewardSpec, ...] = Field(
        (AccuracyReward(), FormatReward()), min_length=1, description="summed by weight"
    )
    loss: LossRecipe = LossRecipe()
    train: TrainRecipe = TrainRecipe()
    budget: BudgetRecipe = BudgetRecipe()
    schedules: tuple[Schedule, ...] = Field(
        (), description="settings that change by step, or when a trigger fires"
    )
    sentinel: SentinelRecipe = SentinelRecipe()
    sweep: SweepRecipe = SweepRecipe()
    evaluate: EvaluateRecipe = EvaluateRecipe()

    @model_validator(mode="after")
    def something_to_learn(self) -> Self:
        later = any(one.key.startswith("rewards.") for one in self.schedules)
        if not later and not any(reward.weight for reward in self.rewards):
            raise ValueError("rewards: every weight is 0, so nothing can be learnt; weigh one")
        return self

    @model_validator(mode="after")
    def samples_exactly_where_it_trains(self) -> Self:
        if self.rollout.exact and not isinstance(self.rollout.engine, NativeEngineSpec):
            raise ValueError(
                "rollout.exact = true: only the native engine shares its kernels with training; "
                'set rollout.engine.type = "native", or leave it out'
            )
        if self.rollout.exact and self.train.sharding != "none":
            raise ValueError(
                "rollout.exact = true: its kernels read whole weights; set train.sharding = "
                '"none", or leave it out'
            )
        return self

    @model_validator(mode="after")
    def corrects_what_is_stale(self) -> Self:
        if self.rollout.staleness and self.rollout.exact:
            raise ValueError(
                "rollout.exact = true: older weights do not give the trainer's log-probs; set "
                "rollout.staleness = 0, or leave exact out"
            )
        if self.rollout.staleness and self.loss.importance_cap == 0:
            raise ValueError(
                "loss.importance_cap = 0: with rollout.staleness = 1 other weights have drawn than "
                "those that learn, which has to be made up for; leave it out (it is 2 then)"
            )
        return self

    @model_validator(mode="after")
    def shards_what_is_trained(self) -> Self:
        if self.train.sharding == "full" and self.model.lora is not None:
            raise ValueError(
                'train.sharding = "full": adapters (model.lora) are small and not sharded; set it '
                'to "none"'
            )
        return self

    @model_validator(mode="after")
    def shards_what_it_can(self) -> Self:
        if self.train.sharding == "full" and self.train.optimizer != "adamw":
            raise ValueError(
                'train.optimizer = "adamw_8bit": its moments are not sharded; set train.sharding = '
                '"none", or leave it out'
            )
        return self

    @model_validator(mode="after")
    def whole_batches(self) -> Self:
        updates = self.train.updates_per_batch
        for key, steps in (
            ("train.num_steps", self.train.num_steps),
            ("train.save_every", self.train.save_every),
            ("evaluate.every", self.evaluate.every),
        ):
            if steps % updates:
                raise ValueError(
                    f"{key} = {steps} must be a multiple of train.updates_per_batch = {updates}"
                )
        return self

    @property
    def corrected_loss(self) -> LossRecipe:
        """`loss` with the `importance_cap` that the rollouts call for where none is stated."""
        if self.loss.importance_cap is not None:
            return self.loss
        other_weights = self.rollout.engine.copies_weights or self.rollout.staleness
        cap = DEFAULT_IMPORTANCE_CAP if other_weights else 0.0
        return self.loss.model_copy(update={"importance_cap": cap})

    @property
    def evaluation_cap(self) -> int:
        return self.evaluate.max_completion_tokens or self.rollout.max_completion_tokens
