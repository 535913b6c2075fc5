"""Claims on single tokens: the covariance identity, where the clip binds, what precision does."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from baselines.claims.finding import Finding, Floats, cluster_sums, of_spread, of_sums
from baselines.claims.registry import claim
from tfgrpo.errors import RunError

Integers = NDArray[np.int64]

PASSES = 4
"""Of updates over a probe's rollout batch, so that ratios reach the clip often enough to count."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one rollout batch of a model tells, token by token; everything in nats.

    Of all N reply tokens: `group` (N,) numbers the problem; `sampled`, `bfloat16` and `float16`
    (N,) are log-probabilities by the float32 sampler and by a trainer's passes at equal weights.
    Of S tokens, before and after one small update: `at` (S,) indexes the N tokens, `advantage`
    (S,), `predicted` (S,) is -Cov(log pi, change of logits), `measured` (S,) the change of entropy.
    Of C clipped tokens in the updates that followed: `clip_group`, `clip_upper` (1 upper, 0 lower)
    and `clip_probability`, at the start of the updates. `passed` tokens went through these.
    """

    group: Integers
    sampled: Floats
    bfloat16: Floats
    float16: Floats
    at: Integers
    advantage: Floats
    predicted: Floats
    measured: Floats
    clip_group: Integers
    clip_upper: Integers
    clip_probability: Floats
    passed: int

    def pack(self) -> bytes:
        file = io.BytesIO()
        np.savez_compressed(file, **asdict(self))
        return file.getvalue()


def unpack(data: bytes) -> Probe:
    """The probe that `Probe.pack` wrote. Raises RunError if the file is damaged."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in Probe.__slots__}
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise RunError(
            f"The probe is damaged ({error}); delete its folder and run again."
        ) from None
    return Probe(**{**found, "passed": int(found["passed"])})


def first_order(before: Floats, after: Floats) -> tuple[Floats, Floats]:
    """-Cov_p(log p, z' - z) and H(z') - H(z) of logits z, z' (S, V): the identity's two sides.

    dH/dz_a = -p_a (log p_a + H), so the former is the latter to first order in z' - z for any
    change of logits (arXiv 2505.22617, lemma 1). Both (S,), in nats.
    """
    logp, moved = _log_softmax(before), _log_softmax(after)
    p, step = np.exp(logp), after - before
    entropy = -(p * logp).sum(-1)
    covariance = (p * logp * step).sum(-1) + entropy * (p * step).sum(-1)
    change: Floats = -(np.exp(moved) * moved).sum(-1) - entropy
    return -covariance, change


def _log_softmax(z: Floats) -> Floats:
    shifted = z - z.max(-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


# pairs of values ----------------------------------------------------------------------------------


def _pair_sums(x: Floats, y: Floats, clusters: Integers) -> Floats:
    """n, x, y, xx, xy, yy by cluster: what slope and correlation are made of."""
    return cluster_sums([np.ones_like(x), x, y, x * x, x * y, y * y], clusters)


def _moments(totals: Floats) -> tuple[Floats, Floats, Floats]:
    """Variances of x and y, and their covariance, from totals (..., 6)."""
    n, x, y, xx, xy, yy = np.moveaxis(totals, -1, 0)
    return xx / n - (x / n) ** 2, yy / n - (y / n) ** 2, xy / n - x * y / n**2


def slope(totals: Floats) -> Floats:
    """Of y on x, by least squares with an intercept."""
    var_x, _, cov = _moments(totals)
    return cov / var_x


def correlation(totals: Floats) -> Floats:
    var_x, var_y, cov = _moments(totals)
    found: Floats = cov / np.sqrt(var_x * var_y)
    return found


def covariance_identity(probes: Sequence[Probe]) -> Finding:
    """Delta H = -Cov(log pi, Delta z) (arXiv 2505.22617, lemma 1), on the logits of a real update.

    Slope of the measured on the predicted change over reply tokens; interval over problems. Within
    a tenth of 1 it holds at this size of update.
    """
    sums = [_pair_sums(_scaled(p.predicted), _scaled(p.measured), p.group[p.at]) for p in probes]
    related = of_sums(sums, correlation, "identity, r")
    change = np.concatenate([p.measured for p in probes])
    detail = (
        f"Correlation {related.value:.4f} over {len(change)} tokens, whose entropy changed by "
        f"{change.mean():+.2e} nats on average, {np.abs(change).mean():.2e} in size."
    )
    found = of_sums(sums, slope, "identity, slope")
    return of_spread(claim("covariance-identity").rule, found, detail)


def _scaled(x: Floats) -> Floats:
    """In thousandths of a nat: squares of tiny changes must not vanish in rounding."""
    return 1e3 * x


def covariance_advantage(probes: Sequence[Probe]) -> Finding:
    """A token's covariance tells where entropy falls (arXiv 2505.22617, theorems 1 and 2, eq. 10).

    Correlation over reply tokens of the measured change of entropy with -(lp - mean lp)
    (A - mean A), the quantity by which Clip-Cov and KL-Cov choose; interval over problems.
    """
    sums = []
    for p in probes:
        lp = p.sampled[p.at]
        cov = (lp - lp.mean()) * (p.advantage - p.advantage.mean())
        sums.append(_pair_sums(-cov, _scaled(p.measured), p.group[p.at]))
    found = of_sums(sums, correlation, "advantage, r")
    detail = f"Of the variance of the change {100 * found.value**2:.1f}% goes with it."
    return of_spread(claim("covariance-advantage").rule, found, detail)


# the clip -----------------------------------------------------------------------------------------


def clip_asymmetry(probes: Sequence[Probe]) -> Finding:
    """The upper clip binds on tokens of low probability (arXiv 2503.14476, section 3.1).

    Mean probability, before the updates, of the tokens whose gradient the upper clip stops, minus
    that of those at the lower clip; interval over problems. A ratio above 1 + high needs a
    probability below 1 / (1 + high), so part of a difference is arithmetic. Inconclusive where a
    side stops no token in some seed.
    """
    sums = []
    for p in probes:
        upper = p.clip_upper.astype(np.float64)
        columns = [upper, upper * p.clip_probability, 1 - upper, (1 - upper) * p.clip_probability]
        sums.append(cluster_sums(columns, p.clip_group))
    totals = np.sum([s.sum(axis=0) for s in sums], axis=0)
    tokens = sum(p.passed for p in probes)
    if not all(s[:, 0].sum() and s[:, 2].sum() for s in sums):
        detail = f"Of {tokens} tokens {totals[0]:.0f} met the upper and {totals[2]:.0f} the lower."
        return Finding(None, None, None, "inconclusive", detail)
    detail = (
        f"Upper: {totals[0]:.0f} tokens ({1e4 * totals[0] / tokens:.1f} in 10,000), mean "
        f"probability {totals[1] / totals[0]:.2f}; lower: {totals[2]:.0f} "
        f"({1e4 * totals[2] / tokens:.1f}), {totals[3] / totals[2]:.2f}."
    )
    found = of_sums(sums, lambda t: t[..., 1] / t[..., 0] - t[..., 3] / t[..., 2], "clip")
    return of_spread(claim("clip-asymmetry").rule, found, detail)


# precision ----------------------------------------------------------------------------------------


def _gaps(probe: Probe, name: str) -> Floats:
    """log pi_trainer - log pi_sampler of each token, (N,)."""
    gap: Floats = getattr(probe, name) - probe.sampled
    return gap


def _told(probes: Sequence[Probe]) -> str:
    parts = []
    for name in ("bfloat16", "float16"):
        gap = np.concatenate([_gaps(p, name) for p in probes])
        parts.append(
            f"{name}: log-ratio {gap.mean():+.1e} on average, sd {gap.std():.1e}, largest "
            f"{np.abs(gap).max():.1e}, mean ratio - 1 {np.expm1(gap).mean():+.1e}"
        )
    return "; ".join(parts) + "."


def precision_bias(probes: Sequence[Probe]) -> Finding:
    """Noise of a bfloat16 trainer biases its ratios upwards (arXiv 2603.11682, theorem 3).

    Mean of exp(log pi_bfloat16 - log pi_sampler) minus 1 at equal weights, over the sampler's own
    tokens; interval over problems. The theorem assumes noise of mean 0 in log pi. On tokens that
    the sampler drew exactly the ratio's expectation is 1, whatever the noise.
    """
    sums = [
        cluster_sums([np.ones_like(gap), np.expm1(gap)], p.group)
        for p in probes
        for gap in [_gaps(p, "bfloat16")]
    ]
    found = of_sums(sums, lambda t: t[..., 1] / t[..., 0], "precision, bias")
    return of_spread(claim("precision-bias").rule, found, _told(probes))


def precision_spread(probes: Sequence[Probe]) -> Finding:
    """float16 takes most of bfloat16's mismatch away (arXiv 2510.26788).

    Standard deviation of log pi_trainer - log pi_sampler at equal weights, in bfloat16 over that in
    float16; interval over problems. Three bits more of mantissa make 8 where rounding is all.
    """
    sums = []
    for p in probes:
        rough, fine = _scaled(_gaps(p, "bfloat16")), _scaled(_gaps(p, "float16"))
        sums.append(cluster_sums([np.ones_like(rough), rough, fine, rough**2, fine**2], p.group))
    found = of_sums(sums, _spread_ratio, "precision, spread")
    return of_spread(claim("precision-spread").rule, found, _told(probes))


def _spread_ratio(totals: Floats) -> Floats:
    n, x, y, xx, yy = np.moveaxis(totals, -1, 0)
    found: Floats = np.sqrt((xx / n - (x / n) ** 2) / (yy / n - (y / n) ** 2))
    return found
