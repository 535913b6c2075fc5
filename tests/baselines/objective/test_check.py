from __future__ import annotations

from typing import Any

import pytest

from baselines.methods import METHODS
from baselines.objective import spec as s
from baselines.objective.check import problems
from tests.baselines.objective.cases import PG, of


def found(
    updates: int = 4, group_size: int = 8, binary: bool = True, top_p: float = 1.0, **stages: Any
) -> list[str]:
    return problems(of(**stages), updates, group_size, binary, top_p)


@pytest.mark.parametrize("name", METHODS)
def test_every_named_method_makes_sense(name: str) -> None:
    method = METHODS[name]
    updates = int(method.settings.get("minibatches", 1))
    binary = not method.settings.get("rewards")
    assert problems(method.objective, updates, 16, binary, 1.0) == []


@pytest.mark.parametrize(
    "stages",
    [
        {},
        {"updates": 1},
        {"updates": 1, "surrogate": PG, "transforms": (s.Delightful(),)},
        {"updates": 1, "surrogate": s.Nft()},
        {"updates": 1, "surrogate": PG, "dropping": s.ClipCov()},
        {"group_size": 1, "estimator": s.Reinforce()},
        {"group_size": 1, "estimator": s.Signed()},
        {"group_size": 4, "estimator": s.PassAtK(k=4)},
        {"binary": False, "estimator": s.Rloo()},
        {"binary": False, "estimator": s.Opo(), "surrogate": s.Gppo()},
        {"estimator": s.Signed(positive=0.1), "dropping": s.ClipCov()},
        {"top_p": 0.9, "correction": s.Truncated()},
        {"transforms": (s.EntropyShaped(), s.Hicra()), "terms": (s.EntropyBonus(),)},
        {"transforms": (s.EntropyShaped(),), "masks": (s.HighEntropy(),)},
        {"transforms": (s.RepoR(),), "terms": (s.EntropyBonus(), s.Kl())},
        {"terms": (s.AdaptiveEntropy(),)},
    ],
    ids=repr,
)
def test_sane_objectives_have_no_problems(stages: dict[str, Any]) -> None:
    assert found(**stages) == []


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"group_size": 1}, "a group of 1 has nothing to compare; set group_size to 2 or more"),
        ({"group_size": 1, "estimator": s.MaxRl()}, "maxrl compares the replies"),
        (
            {"group_size": 8, "estimator": s.PassAtK(k=9)},
            "pass_at_k with k=9 needs at least 9 replies, not 8; lower objective.estimator.k",
        ),
        *(
            (
                {"binary": False, "estimator": estimator},
                f"{estimator.kind} is defined for rewards of 0 and 1 only; remove the reward",
            )
            for estimator in (s.PassAtK(), s.MaxRl(), s.Signed())
        ),
        ({"binary": False, "surrogate": s.Nft()}, "nft is defined for rewards of 0 and 1 only"),
        *(
            (
                {"estimator": s.Signed(positive=up, negative=down), "dropping": s.ClipCov()},
                "the covariance is 0 at every token, so Clip-Cov and KL-Cov select by noise",
            )
            for up, down in ((1, 0), (0, 1))
        ),
        (
            {"estimator": s.Signed(positive=0), "surrogate": s.KlCov()},
            "select by noise; use them with an estimator that has both signs",
        ),
        *(
            (
                {"updates": 1, "surrogate": surrogate},
                f"{surrogate.kind} is inert: its gradient is plain policy gradient's; set minib",
            )
            for surrogate in (
                s.KlCov(),
                s.Gppo(),
                s.Cispo(),
                s.Adapo(),
                s.PpoClip(high=0.28),
                s.PpoClip(dual=3.0),
            )
        ),
        ({"updates": 1, "ratio": "sequence"}, "sequence ratio is inert"),
        ({"transforms": (s.Delightful(),)}, "set objective.surrogate to policy_gradient"),
        (
            {"surrogate": s.KlCov(), "dropping": s.ClipCov()},
            "kl_cov and clip_cov select by the same covariance; remove objective.dropping",
        ),
        (
            {"surrogate": s.Nft(), "transforms": (s.Hicra(),)},
            "nft uses no advantages, so transforms and dropping do nothing; remove them",
        ),
        ({"surrogate": s.Nft(), "dropping": s.ClipCov()}, "nft uses no advantages"),
        (
            {"surrogate": s.Nft(), "ratio": "sequence"},
            "nft is defined on token ratios; set objective.ratio to token",
        ),
        *(
            (stages, "Two controllers would steer one entropy; keep one")
            for stages in (
                {"transforms": (s.RepoR(), s.RepoD())},
                {"transforms": (s.RepoR(),), "surrogate": s.Adapo()},
                {"transforms": (s.RepoD(),), "terms": (s.AdaptiveEntropy(),)},
                {"surrogate": s.Adapo(), "terms": (s.AdaptiveEntropy(),)},
            )
        ),
        (
            {"transforms": (s.Hicra(), s.EntropyShaped(), s.Hicra())},
            "hicra is listed twice; list it once",
        ),
        ({"terms": (s.Kl(), s.Kl(estimator="k2"))}, "kl is listed twice"),
        (
            {"top_p": 0.9},
            "top_p=0.9 come from another distribution than the one that is trained; set sampl",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_nonsense_is_one_sentence(stages: dict[str, Any], words: str) -> None:
    sentences = found(**stages)
    assert len(sentences) == 1
    assert words in sentences[0]
    assert sentences[0].endswith(".")


def test_problems_add_up() -> None:
    sentences = found(updates=1, group_size=1, top_p=0.5, ratio="sequence", surrogate=s.Nft())
    assert len(sentences) == 4


def test_every_part_has_its_equation_and_source() -> None:
    def leaves(part: type[s.Part]) -> list[type[s.Part]]:
        below = [leaf for child in part.__subclasses__() for leaf in leaves(child)]
        return below or [part]

    parts = leaves(s.Part)
    assert len(parts) > 30
    assert all(part.equation and part.source for part in parts)
    kinds = [part.model_fields["kind"].default for part in parts]
    assert len(set(kinds)) == len(kinds)


def test_an_objective_lists_its_parts_in_the_order_of_the_stages() -> None:
    objective = of(
        transforms=(s.RepoR(), s.Hicra()),
        masks=(s.HighEntropy(),),
        dropping=s.ClipCov(),
        correction=s.Truncated(),
        terms=(s.Kl(),),
    )
    kinds = [getattr(part, "kind", "") for part in objective.parts]
    assert kinds == [
        "grpo", "repo_r", "hicra", "high_entropy", "ppo_clip", "clip_cov", "truncated", "kl",
        "token_mean",
    ]  # fmt: skip
    needed = {need for part in objective.parts for need in part.needs}
    assert needed == {"planning", "entropy", "rollout_logp", "reference"}
    assert all(objective.requires(need) for need in needed)
    assert not objective.requires("critic")
    assert not objective.requires("entropy_gradient")


def test_the_inert_parts_are_those_that_say_so() -> None:
    inert = (s.PpoClip(high=0.3), s.Adapo(), s.Gppo(), s.Cispo(), s.KlCov())
    assert all(part.inert_on_policy for part in inert)
    assert not any(part.inert_on_policy for part in (PG, s.Nft(), s.ClipCov()))


def test_an_objective_survives_a_round_trip_through_json() -> None:
    for method in METHODS.values():
        objective = method.objective
        assert s.ObjectiveSpec.model_validate_json(objective.model_dump_json()) == objective
