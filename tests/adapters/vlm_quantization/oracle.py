"""Retrieval metrics by their definitions: every order of the ties, one after the other, in fractions.

A ranking is a list of grades, best first; a grade above 0 is relevant.
"""

import itertools
import math
import statistics
from fractions import Fraction


def orders(distances):
    """Yield every ranking that puts nearer items first."""
    groups = [[i for i, d in enumerate(distances) if d == distance] for distance in sorted(set(distances))]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for part in parts for item in part]


def average_precision(ranking, k=None, divisor="relevant"):
    """Mean of the precision at the rank of each relevant item; the divisor selects the items."""
    relevant = sum(grade > 0 for grade in ranking)
    precisions = [
        Fraction(sum(grade > 0 for grade in ranking[: at + 1]), at + 1)
        for at, grade in enumerate(ranking)
        if grade > 0 and (k is None or at < k or divisor == "first")
    ]
    if divisor == "first":
        precisions = precisions[:k]
        return Fraction(sum(precisions), len(precisions))
    count = {
        "relevant": relevant,
        "reachable": relevant if k is None else min(k, relevant),
        "hits": len(precisions),
    }[divisor]
    return Fraction(sum(precisions), count) if precisions else Fraction(0)


def discounted_gain(ranking, k, gain):
    """Discounted gain of the first k, divided by that of the ideal ranking."""

    def total(grades):
        worth = [grade if gain == "linear" else 2**grade - 1 for grade in grades[:k]]
        return math.fsum(one / math.log2(rank + 1) for rank, one in enumerate(worth, 1))

    return total(ranking) / total(sorted(ranking, reverse=True))


def metrics(ranking, ks, k=None, divisor="reachable", gain="exponential"):
    """Metrics of one ranking."""
    relevant = [grade > 0 for grade in ranking]
    first = relevant.index(True) + 1
    out = {"mAP": average_precision(ranking, k, divisor)}
    for cut in ks:
        hits = sum(relevant[:cut])
        out[f"mAP@{cut}"] = average_precision(ranking, cut, divisor)
        out[f"P@{cut}"] = Fraction(hits, min(cut, len(ranking)))
        out[f"R@{cut}"] = Fraction(hits, sum(relevant))
        out[f"hit@{cut}"] = Fraction(hits > 0)
        out[f"NDCG@{cut}"] = Fraction(discounted_gain(ranking, cut, gain))
    out["MRR"] = Fraction(1, first)
    out["MedR"] = Fraction(first)
    return out


def expected(distances, grades, ks, **rules):
    """Return ``{metric: (mean, lowest, highest)}`` over all orders, or None without a relevant item."""
    if not any(grades):
        return None
    # Orders with equal grades are counted, not measured again.
    seen = {}
    for order in orders(distances):
        ranking = tuple(int(grades[item]) for item in order)
        seen[ranking] = seen.get(ranking, 0) + 1
    measured = [(metrics(list(ranking), ks, **rules), times) for ranking, times in seen.items()]
    total = sum(seen.values())
    return {
        name: (
            sum(values[name] * times for values, times in measured) / total,
            min(values[name] for values, _ in measured),
            max(values[name] for values, _ in measured),
        )
        for name in measured[0][0]
    }


def over_queries(distances, grades, ks, **rules):
    """Return ``{metric: (value, low, high)}`` averaged over the queries that have a relevant item."""
    each = [expected(d, g, ks, **rules) for d, g in zip(distances, grades, strict=True)]
    each = [values for values in each if values is not None]
    average = {"MedR": statistics.median}
    return {
        name: tuple(
            float(average.get(name, statistics.mean)([values[name][at] for values in each]))
            for at in range(3)
        )
        for name in (each[0] if each else ())
    }


def within_radius(distances, grades, radius):
    """Return mean precision and recall within a distance, over the queries that have a relevant item."""
    precisions, recalls = [], []
    for d, g in zip(distances, grades, strict=True):
        if any(g):
            inside = [grade > 0 for distance, grade in zip(d, g, strict=True) if distance <= radius]
            precisions.append(sum(inside) / len(inside) if inside else 0)
            recalls.append(sum(inside) / sum(grade > 0 for grade in g))
    return statistics.mean(precisions), statistics.mean(recalls)


def hamming(one, other):
    """Number of differing bits of two byte strings."""
    return sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(one, other, strict=True))
