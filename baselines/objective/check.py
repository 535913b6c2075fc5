"""Which parts make sense together; every nonsense is a sentence before any compute is spent."""

from __future__ import annotations

from collections.abc import Iterator

from baselines.objective import spec as s

RELATIVE = (s.Grpo, s.DrGrpo, s.Rloo, s.Opo, s.PassAtK, s.MaxRl)


def problems(
    objective: s.ObjectiveSpec,
    updates_per_rollout: int,
    group_size: int,
    binary_rewards: bool,
    top_p: float,
) -> list[str]:
    """Sentences on what cannot work, each with what to do; empty if all is well."""
    return [
        *_estimator(objective, group_size, binary_rewards),
        *_surrogate(objective, updates_per_rollout),
        *_controllers(objective),
        *_sampling(objective, top_p),
    ]


def _estimator(objective: s.ObjectiveSpec, group_size: int, binary: bool) -> Iterator[str]:
    estimator = objective.estimator
    if isinstance(estimator, RELATIVE) and group_size < 2:
        yield (
            f"{estimator.kind} compares the replies of a group, and a group of {group_size} has "
            "nothing to compare; set group_size to 2 or more."
        )
    if isinstance(estimator, s.PassAtK) and estimator.k > group_size:
        yield (
            f"pass_at_k with k={estimator.k} needs at least {estimator.k} replies, not "
            f"{group_size}; lower objective.estimator.k or raise group_size."
        )
    for part in objective.parts:
        if part.binary and not binary:
            yield (
                f"{_kind(part)} is defined for rewards of 0 and 1 only; remove the reward "
                "transforms, or choose grpo, dr_grpo, rloo or opo."
            )
    one_sided = isinstance(estimator, s.Signed) and 0 in (estimator.positive, estimator.negative)
    if one_sided and (objective.dropping or isinstance(objective.surrogate, s.KlCov)):
        yield (
            "With advantages of one value the covariance is 0 at every token, so Clip-Cov and "
            "KL-Cov select by noise; use them with an estimator that has both signs."
        )


def _surrogate(objective: s.ObjectiveSpec, updates: int) -> Iterator[str]:
    surrogate = objective.surrogate
    inert = isinstance(surrogate, s.KlCov | s.Gppo | s.Cispo | s.Adapo)
    if isinstance(surrogate, s.PpoClip):
        inert = surrogate.high != surrogate.low or surrogate.dual is not None
    if updates == 1 and (inert or objective.ratio == "sequence"):
        name = "sequence ratio" if objective.ratio == "sequence" else surrogate.kind
        yield (
            f"With one update per rollout batch the ratio is 1 everywhere and {name} is inert: its "
            "gradient is plain policy gradient's; set minibatches or epochs to 2 or more."
        )
    gated = any(isinstance(t, s.Delightful) for t in objective.transforms)
    if gated and not isinstance(surrogate, s.PolicyGradient):
        yield "delightful has no ratio and no clip; set objective.surrogate to policy_gradient."
    if isinstance(surrogate, s.KlCov) and objective.dropping is not None:
        yield "kl_cov and clip_cov select by the same covariance; remove objective.dropping."
    if isinstance(surrogate, s.Nft) and (objective.transforms or objective.dropping):
        yield "nft uses no advantages, so transforms and dropping do nothing; remove them."
    if isinstance(surrogate, s.Nft) and objective.ratio == "sequence":
        yield "nft is defined on token ratios; set objective.ratio to token."


def _controllers(objective: s.ObjectiveSpec) -> Iterator[str]:
    steered = [p for p in objective.parts if isinstance(p, s.RepoR | s.RepoD | s.Adapo)]
    bonus = [p for p in objective.parts if isinstance(p, s.AdaptiveEntropy | s.EntropyBonus)]
    if len(steered) > 1 or (steered and any(isinstance(p, s.AdaptiveEntropy) for p in bonus)):
        yield "Two controllers would steer one entropy; keep one: repo, adapo or adaptive_entropy."
    kinds = [p.kind for p in (*objective.transforms, *objective.terms)]
    for kind in sorted({kind for kind in kinds if kinds.count(kind) > 1}):
        yield f"{kind} is listed twice; list it once."


def _sampling(objective: s.ObjectiveSpec, top_p: float) -> Iterator[str]:
    if top_p < 1 and objective.correction is None:
        yield (
            f"Rollouts with top_p={top_p} come from another distribution than the one that is "
            "trained; set sampling.top_p to 1, or objective.correction to truncated."
        )


def _kind(part: s.Part) -> str:
    return str(getattr(part, "kind", type(part).__name__))
