"""The problems: read, gradable, apart, and within the limits of the recipe."""

from collections import Counter
from collections.abc import Iterator, Sequence

from open_rs.benchmarks import BENCHMARKS, load_benchmark, local_file
from open_rs.errors import InputError
from open_rs.normalise import normalised
from open_rs.overlap import refuse_overlap
from open_rs.plan.doctor.audit import gravest
from open_rs.plan.doctor.finding import Check, Verdict, fail, ok, skipped, warn
from open_rs.plan.doctor.hub import is_cached, is_offline
from open_rs.plan.doctor.sets import ROWS, Sample
from open_rs.plan.doctor.subject import Subject
from open_rs.plan.findings import Facts
from open_rs.plan.recipe_checks import context as context_findings
from open_rs.plan.run_checks import prompts as prompt_findings
from open_rs.problems import Problem

GOLDS = 16  # of each set that are graded
PROMPTS = 400  # of each set that are encoded


def found(subject: Subject) -> Verdict:
    """The sets that the recipe names can be read, and hold problems."""
    samples = subject.samples
    for key, sample in samples.items():
        if sample.error is not None:
            raise InputError(f"{key}: {sample.error}")
        if not sample.rows:
            return fail(f"{key}: {sample.source.label} holds no rows", "check the source")
    recipe = subject.recipe
    if recipe.data.train is None and not recipe.sources and "curated" not in samples:
        return fail(
            "the recipe names no problems to train on",
            "name a set as data.train, or sources to curate",
        )
    told = [f"{key} {_size(sample)}" for key, sample in samples.items()]
    return ok(", ".join(told) or "all on the hub")


def _size(sample: Sample) -> str:
    return f"{len(sample.rows)}" if sample.complete else f"over {ROWS}"


def rows(subject: Subject) -> Verdict:
    """Every row can be read as a problem."""
    dropped = 0
    for key, sample in subject.samples.items():
        if sample.bad and sample.raw and sample.source.bad_rows == "drop":
            dropped += len(sample.bad)
        elif sample.bad:
            where, bad = sample.bad[0]
            return fail(
                f"{key}: {len(sample.bad)} of {len(sample.rows)} rows cannot be read; {where}: "
                f"{bad.reason}{f' ({bad.detail})' if bad.detail else ''}",
                bad.cure,
            )
    return ok(f"{dropped} bad rows, which curation drops" if dropped else "all of them")


def answers(subject: Subject) -> Verdict:
    """Every problem has an answer; of raw rows half at least, since curation drops the others."""
    for key, sample in subject.samples.items():
        empty = [one.id for one in sample.problems if not one.answer.strip()]
        if len(empty) > (len(sample.problems) / 2 if sample.raw else 0):
            return fail(
                f"{key}: {len(empty)} of {len(sample.problems)} problems have no answer, "
                f"{empty[0]} among them",
                "name the column in columns, or set answer_from",
            )
    return ok("all of them")


def ready(subject: Subject, *mended_by: str) -> Iterator[tuple[str, list[Problem]]]:
    """The problems of each set, but of raw ones only where no filter of these kinds is to come."""
    kinds = {one.type for one in subject.recipe.filters}
    for key, sample in subject.samples.items():
        if not (sample.raw and kinds.intersection(mended_by)):
            yield key, sample.problems


def golds(subject: Subject) -> Verdict:
    """The answers grade themselves as correct; with one that does not, no completion is right."""
    number = 0
    for key, problems in ready(subject, "gold"):
        some = _spread(problems, GOLDS)
        number += len(some)
        futures = [subject.grader.submit("\\boxed{" + one.answer + "}", one.answer) for one in some]
        grades = [future.result() for future in futures]
        bad = [one for one, grade in zip(some, grades, strict=True) if not grade.correct]
        if bad:
            return fail(
                f"{key}: {len(bad)} of {len(some)} answers do not grade themselves as correct, "
                f"such as {bad[0].answer[:60]!r} of {bad[0].id}",
                "mend or remove the rows, or curate with a gold filter",
            )
    return ok(f"{number} answers") if number else skipped("a gold filter looks at all of them")


def _spread(problems: Sequence[Problem], number: int) -> list[Problem]:
    """`number` of the problems, from first to last."""
    step = max(len(problems) // number, 1)
    return list(problems[::step][:number])


def duplicates(subject: Subject) -> Verdict:
    """No set holds a problem twice."""
    for key, problems in ready(subject, "exact_duplicates", "near_duplicates"):
        ids = Counter(one.id for one in problems)
        texts = Counter(normalised(one.problem) for one in problems)
        twice = [one for one in problems if texts[normalised(one.problem)] > 1]
        name, most = ids.most_common(1)[0] if ids else ("", 0)
        if most > 1 and not subject.samples[key].raw:
            return fail(f"{key}: id {name!r} occurs {most} times", "give every problem its own id")
        if twice:
            return warn(
                f"{key}: {len(twice)} of {len(problems)} problems stand there more than once, "
                f"such as {twice[0].id}",
                "curate with an exact_duplicates filter",
            )
    return ok("none")


def overlap(subject: Subject) -> Verdict:
    """Training, validation and test problems are apart."""
    sets = dict(ready(subject, "contamination"))
    refuse_overlap(sets)
    return ok(f"{', '.join(sets)} are apart") if len(sets) > 1 else skipped("one set alone")


def special_tokens(subject: Subject) -> Verdict:
    """No problem holds the text of a special token, which would end or open a turn."""
    marks = [one for one in subject.tokenizer.all_special_tokens if len(one) > 3]
    for key, sample in subject.samples.items():
        for one in sample.problems:
            held = [mark for mark in marks if mark in one.problem]
            if held:
                return warn(
                    f"{key}: {one.id} holds {held[0]!r}, which the tokenizer reads as a special "
                    "token",
                    "mend or remove the row",
                )
    return ok(f"{len(marks)} special tokens looked for")


def prompt_facts(subject: Subject) -> Facts:
    """How many prompts of the training set, or of its raw rows, are within the limit; longest."""
    limit = subject.recipe.prompt.max_prompt_tokens
    too_long, longest, count = 0, 0, 0
    for key, sample in subject.samples.items():
        some = _spread(sample.problems, PROMPTS)
        lengths = [len(subject.prompter.encode(one).prompt_ids) for one in some]
        longest = max([longest, *(length for length in lengths if length <= limit)])
        if key in ("data.validation", "data.test"):
            continue
        over = sum(length > limit for length in lengths)
        too_long += round(over / max(len(some), 1) * len(sample.problems))
        count += len(sample.problems)
    return Facts(problems=count - too_long, too_long=too_long, longest_prompt=longest or None)


def prompts(subject: Subject) -> Verdict:
    """Few training prompts are over prompt.max_prompt_tokens, and left out."""
    facts = prompt_facts(subject)
    if not facts.problems and facts.too_long:
        return fail(
            f"every training prompt is over prompt.max_prompt_tokens = "
            f"{subject.recipe.prompt.max_prompt_tokens}",
            "raise it",
        )
    told = f"{facts.too_long} too long, the longest of the others {facts.longest_prompt} tokens"
    if not facts.problems:
        return skipped("the training problems are not here")
    return gravest(prompt_findings(subject.recipe, facts), "prompt.max_prompt_tokens", told)


def enough(subject: Subject) -> Verdict:
    """There are training problems for a step."""
    training = {
        key: sample
        for key, sample in subject.samples.items()
        if key[:8] not in ("data.val", "data.tes")
    }
    count = sum(len(sample.problems) for sample in training.values())
    if not count:
        return skipped("the training problems are not here")
    if not all(sample.complete for sample in training.values()):
        return ok(f"over {count} problems")
    found = prompt_findings(subject.recipe, Facts(problems=count))
    return gravest(found, "rollout.prompts_per_step", f"{count} problems")


def context(subject: Subject) -> Verdict:
    """The longest prompt and the cap fit into the model's context."""
    from open_rs.models import context_length

    limit = context_length(subject.model)
    facts = Facts(context=limit, longest_prompt=prompt_facts(subject).longest_prompt)
    findings = list(context_findings(subject.recipe, facts))
    for section in ("rollout", "evaluate"):
        verdict = gravest(findings, f"{section}.max_completion_tokens", f"{limit} positions")
        if verdict.status != "ok":
            return verdict
    return verdict


def benchmarks(subject: Subject) -> Verdict:
    """What the contamination filter compares with is here."""
    names = [
        name
        for one in subject.recipe.filters
        if one.type == "contamination"
        for name in one.against
        if name not in ("validation", "test")
    ]
    if not names:
        return skipped("no filter names a benchmark")
    for name in names:
        benchmark = BENCHMARKS.get(name)
        hub = benchmark.source.hub if benchmark and local_file(benchmark) is None else None
        if hub is None:
            load_benchmark(name)
        elif is_offline() and not is_cached(hub):
            return fail(
                f"benchmark {name} is not here, and HF_HUB_OFFLINE lets nothing be fetched",
                f"put {name}.jsonl into the folder that OPEN_RS_BENCHMARKS names",
            )
    return ok(", ".join(names))


def pass_rates(subject: Subject) -> Verdict:
    """Pass rates are there, where the recipe trains on a band of them."""
    from open_rs.train.settings import uses_band
    from open_rs.train.setup import pass_rates as read_pass_rates

    if not uses_band(subject.recipe):
        return skipped("the recipe asks for no band of pass rates")
    training = [one for key, one in subject.samples.items() if key in ("data.train", "curated")]
    if not training:
        measured = any(one.type == "pass_rate" for one in subject.recipe.filters)
        if measured:
            return ok("curation will measure them")
        return fail(
            "data.min_pass_rate or data.max_pass_rate is set, and nothing measures pass rates",
            "curate with a pass_rate filter, or leave them out",
        )
    return ok(f"of {len(read_pass_rates(training[0].source))} problems")


CHECKS = (
    Check("data.found", found),
    Check("data.rows", rows, needs=("data.found",)),
    Check("data.answers", answers, needs=("data.rows",)),
    Check("data.golds", golds, needs=("data.answers", "grader.known_pairs")),
    Check("data.duplicates", duplicates, needs=("data.found",)),
    Check("data.overlap", overlap, needs=("data.found",)),
    Check("data.enough", enough, needs=("data.found",)),
    Check("data.benchmarks", benchmarks),
    Check("data.pass_rates", pass_rates, needs=("data.found",)),
    Check("data.special", special_tokens, needs=("data.found", "tokenizer.loads")),
    Check("data.prompts", prompts, needs=("data.found", "template.renders")),
    Check("model.context", context, needs=("model.loads", "template.renders", "data.found")),
)
