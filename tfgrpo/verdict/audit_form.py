"""The form of replies: what limits, templates and samplers do to an evaluation, beside skill.

The checks of an audit that need no verifier: losses, lengths, copies, and gains that are form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from tfgrpo.verdict.audit import Check, Limits, Sampled, drawn, percent, share_of

CUT = Limits(0.05, 0.2)
UNREAD = Limits(0.05, 0.2)
COPIES = Limits(0.5, 0.95)
FAILED = Limits(0.01, 0.1)
FORM = Limits(0.02, 1.0)


def cut_off(samples: Sequence[Sampled]) -> Check:
    share = share_of(sum(s.outcome.truncated for s in samples), drawn(samples))
    level = CUT.level(share)
    advice = "" if level == "ok" else "raise sampling.max_tokens for all arms alike"
    return Check(
        "cut off", level, share, f"{percent(share)} of samples met the token limit", advice
    )


def unread(samples: Sequence[Sampled]) -> Check:
    share = _without_answer(samples)
    lengths = [length for s in samples for length in s.outcome.lengths]
    length = fmean(lengths) if lengths else 0.0
    level = UNREAD.level(share)
    advice = (
        "" if level == "ok" else "ask for the answer's form in the prompt of all arms; as it is, "
        "learning the form looks like skill"
    )  # fmt: skip
    finding = f"{percent(share)} of samples hold no answer; mean length {length:.1f} tokens"
    return Check("no answer", level, share, finding, advice)


def copies(samples: Sequence[Sampled], temperature: float) -> Check:
    """Share of problems of which all samples are one text."""
    several = [s for s in samples if len(s.texts) > 1]
    if not several:
        return Check("copies", "ok", None, "one sample a problem")
    alike = fmean(len(set(s.texts)) == 1 for s in several)
    texts = sum(len(set(s.texts)) for s in several)
    level = COPIES.level(alike)
    finding = (
        f"{texts} different texts among {drawn(several)} samples; {percent(alike)} of problems "
        "have one only"
    )
    if temperature == 0:
        level, advice = "look", "at temperature 0 samples are copies: draw one, or use a higher one"
    else:
        advice = "see whether the server obeys seed and temperature: pass@k is pass@1 here"
    return Check("copies", level, alike, finding, "" if level == "ok" else advice)


def failures(samples: Sequence[Sampled]) -> Check:
    """Samples that never came to a grade; they are in no other number."""
    lost = sum(s.outcome.failures for s in samples)
    stages = Counter(reason.partition(":")[0] for s in samples for reason in s.failures)
    told = ", ".join(f"{stage} {count}" for stage, count in stages.most_common())
    share = share_of(lost, lost + drawn(samples))
    level = FAILED.level(share)
    advice = "" if level == "ok" else "mend what broke and evaluate again: losses are not random"
    finding = f"{lost} samples failed" + (f" ({told})" if told else "")
    return Check("failures", level, share, finding, advice)


def format_gain(base: Sequence[Sampled], arm: Sequence[Sampled]) -> Check:
    """How much of a gain in pass@1 comes from answering more often, on shared problems.

    With r the share of samples that hold an answer and a the accuracy among them, the gain
    r' a' - r a is (r' - r) a + r' (a' - a); the first part is form.
    """
    shared = {s.task.task_id for s in base} & {s.task.task_id for s in arm}
    a, b = ([s for s in side if s.task.task_id in shared] for side in (base, arm))
    if not drawn(a) or not drawn(b):
        advice = "audit runs on the same problems together"
        return Check("form", "look", None, "no problem shared with the first run", advice)
    read_a, read_b = 1 - _without_answer(a), 1 - _without_answer(b)
    right_a, right_b = (share_of(sum(s.outcome.c for s in x), drawn(x)) for x in (a, b))
    gain = right_b - right_a
    form = (read_b - read_a) * (right_a / read_a if read_a else 0.0)
    cut_a, cut_b = (share_of(sum(s.outcome.truncated for s in x), drawn(x)) for x in (a, b))
    finding = (
        f"pass@1 {_points(gain)} points, of which form {_points(form)}; no answer "
        f"{_points(read_a - read_b)}, cut off {_points(cut_b - cut_a)}, mean length "
        f"{_length(b) - _length(a):+.1f} tokens"
    )
    level = FORM.level(max(abs(read_b - read_a), abs(cut_b - cut_a)))
    advice = "" if level == "ok" else "tell of the arms' shares without an answer beside the gain"
    if gain > 0.01 and form > gain / 2:
        level, advice = "bad", "ask all arms for the same form: most of the gain is form, not skill"
    return Check("form", level, form, finding, advice)


def twins(base: Sequence[Sampled], arm: Sequence[Sampled]) -> Check:
    """Share of shared problems to which both runs have given the same texts."""
    theirs = {s.task.task_id: sorted(s.texts) for s in arm}
    both = [(sorted(s.texts), theirs[s.task.task_id]) for s in base if s.task.task_id in theirs]
    if not both:
        return Check("twins", "ok", None, "no problem shared with the first run")
    share = fmean(a == b for a, b in both)
    level = COPIES.level(share)
    finding = f"{percent(share)} of shared problems have the first run's very texts"
    advice = "give another seed, or see whether what was learned reaches the prompt"
    return Check("twins", level, share, finding, "" if level == "ok" else advice)


def _without_answer(samples: Sequence[Sampled]) -> float:
    return share_of(sum(a is None for s in samples for a in s.outcome.answers), drawn(samples))


def _length(samples: Sequence[Sampled]) -> float:
    return share_of(sum(sum(s.outcome.lengths) for s in samples), drawn(samples))


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
