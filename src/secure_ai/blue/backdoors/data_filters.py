"""Filters that find poisoned training images, one row each: a suspicion for every image, the larger the worse.

With trusted images the problem is easy: a network trained on them alone disagrees with wrong labels. Without them a
filter looks for a small group inside a class; at low doses, blended triggers and clean labels it often sees nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_ai.core.errors import EmptyDataError, ShapeError

Array = NDArray[np.float64]
COMPONENTS = 10  # of the features, in which clusters and covariances are looked for
TRIMMED = 0.1  # of a class, left out of a robust covariance in each round
ROUNDS = 5
ALPHA = 4.0  # SPECTRE's, section 4


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What a filter may look at.

    Attributes:
        images: (N, C, H, W) float64 in [0, 1].
        labels: (N,) int64, as given: they may be wrong.
        features: (N, F) float64, penultimate activations of a network trained on the suspicious data.
        losses: (N,) float64, cross-entropy of a network trained on trusted images, on the given label; None: no such.
        trusted: (M, C, H, W) float64 in [0, 1]; None where there are none.
    """

    images: Array
    labels: NDArray[np.int64]
    features: Array
    losses: Array | None = None
    trusted: Array | None = None


Filter = Callable[[Evidence], Array]


@dataclass(frozen=True, slots=True)
class FilterRow:
    """A filter, and whether it needs trusted images."""

    score: Filter
    needs_trusted: bool


def by_class(score: Callable[[Array], Array]) -> Filter:
    """A filter that scores the features of each class by itself; classes of fewer than 3 images score 0."""

    def scores(evidence: Evidence) -> Array:
        found = np.zeros(len(evidence.labels))
        for label in np.unique(evidence.labels):
            own = np.flatnonzero(evidence.labels == label)
            if len(own) >= 3:
                found[own] = score(evidence.features[own])
        return found

    return scores


def spectral(features: Array) -> Array:
    """Squared projection on the top singular direction of the centred features (Tran et al., 1811.00636, algorithm 1).

    In units of its median, so that classes can be compared.
    """
    centred = features - features.mean(axis=0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    projected = (centred @ direction) ** 2
    return np.asarray(projected / max(float(np.median(projected)), 1e-12))


def clusters(features: Array) -> Array:
    """Membership of the smaller of two clusters (Chen et al., 1811.03728, section 4), weighted by how apart they are.

    Each image of the smaller cluster scores how far the clusters are apart, times how small it is; all others 0.
    """
    reduced = _reduced(features)
    member = _two_means(reduced)
    if member.sum() * 2 > len(member):
        member = ~member
    if not member.any():
        return np.zeros(len(features))
    centres = [reduced[member].mean(axis=0), reduced[~member].mean(axis=0)]
    within = np.sqrt(((reduced - np.where(member[:, None], centres[0], centres[1])) ** 2).sum(axis=1)).mean()
    separation = float(np.linalg.norm(centres[0] - centres[1])) / max(float(within), 1e-12)
    return np.where(member, separation * (1 - member.mean()), 0.0)


def spectre(features: Array) -> Array:
    """Quantum entropy score after whitening with a robust covariance (SPECTRE, 2104.11315, sections 3.2 and 4).

    Note: the covariance is that of the images that are left when the farthest are trimmed, in a few rounds; the first
    round measures distances in median absolute deviations, which a tenth of poisoned images hardly moves.
    """
    reduced = _reduced(features)
    offsets = np.abs(reduced - np.median(reduced, axis=0))
    first = ((offsets / np.maximum(np.median(offsets, axis=0), 1e-12)) ** 2).sum(axis=1)
    kept = first <= np.quantile(first, 1 - TRIMMED)
    white = reduced
    for _ in range(ROUNDS):
        centre = reduced[kept].mean(axis=0)
        covariance = np.atleast_2d(np.cov((reduced[kept] - centre).T)) + 1e-9 * np.eye(reduced.shape[1])
        values, vectors = np.linalg.eigh(covariance)
        white = (reduced - centre) @ vectors / np.sqrt(np.maximum(values, 1e-12))
        distances = (white**2).sum(axis=1)
        kept = distances <= np.quantile(distances, 1 - TRIMMED)
    spread = white.T @ white / len(white)
    values, vectors = np.linalg.eigh(spread)
    excess = values / max(float(np.linalg.norm(spread, 2)), 1e-12) * ALPHA
    weights = np.exp(excess - excess.max())
    projected = (white @ vectors) ** 2
    scores = (projected * weights).sum(axis=1) / weights.sum()
    return np.asarray(scores / max(float(np.median(scores)), 1e-12))


def trusted_loss(evidence: Evidence) -> Array:
    """The loss of a network trained on trusted images only, on the label that is given: wrong labels cost."""
    if evidence.losses is None:
        raise EmptyDataError("no trusted images", where="trusted")
    return evidence.losses


LIT, SELDOM = 0.1, 0.002


def pixel_support(evidence: Evidence) -> Array:
    """Lit pixels that are lit in fewer than 0.2 % of the trusted images: a trigger beside the object is conspicuous."""
    if evidence.trusted is None:
        raise EmptyDataError("no trusted images", where="trusted")
    if evidence.trusted.shape[1:] != evidence.images.shape[1:]:
        expected, got = evidence.images.shape[1:], evidence.trusted.shape[1:]
        raise ShapeError("the trusted images are of another shape", where="trusted", expected=expected, got=got)
    seldom = (evidence.trusted > LIT).mean(axis=0) < SELDOM
    return np.asarray(((evidence.images > LIT) & seldom).sum(axis=(1, 2, 3)), dtype=np.float64)


def _reduced(features: Array) -> Array:
    centred = features - features.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    keep = max(1, min(COMPONENTS, int((s > 1e-9 * max(float(s[0]), 1e-12)).sum())))
    return np.asarray(u[:, :keep] * s[:keep])


def _two_means(points: Array) -> NDArray[np.bool_]:
    """Lloyd's algorithm for two clusters, from the two ends of the first component: (N,) bool."""
    order = np.argsort(points[:, 0], kind="stable")
    centres = points[[order[0], order[-1]]]
    member = np.zeros(len(points), dtype=bool)
    for _ in range(50):
        distances = [((points - centre) ** 2).sum(axis=1) for centre in centres]
        new = distances[0] < distances[1]
        if (new == member).all() or new.all() or not new.any():
            break
        member = new
        centres = np.stack([points[member].mean(axis=0), points[~member].mean(axis=0)])
    return member


FILTERS: Mapping[str, FilterRow] = {
    "trusted-loss": FilterRow(trusted_loss, needs_trusted=True),
    "pixel-support": FilterRow(pixel_support, needs_trusted=True),
    "spectre": FilterRow(by_class(spectre), needs_trusted=False),
    "activation-clustering": FilterRow(by_class(clusters), needs_trusted=False),
    "spectral-signatures": FilterRow(by_class(spectral), needs_trusted=False),
}


def filter_scores(evidence: Evidence) -> dict[str, Array]:
    """The scores (N,) of every filter that the evidence allows, by name."""
    rows = {name: row for name, row in FILTERS.items() if evidence.trusted is not None or not row.needs_trusted}
    return {name: row.score(evidence) for name, row in rows.items()}
