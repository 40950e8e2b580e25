"""Retrieval metrics as their definitions read: every order of the ties, one after the other, in fractions."""

import itertools
from fractions import Fraction


def orders(distances):
    """Yield every ranking that puts nearer items first."""
    groups = [[i for i, d in enumerate(distances) if d == distance] for distance in sorted(set(distances))]
    for parts in itertools.product(*(itertools.permutations(group) for group in groups)):
        yield [item for part in parts for item in part]


def average_precision(ranking):
    """Mean, over the relevant items, of the precision at each one's rank."""
    precisions = [Fraction(sum(ranking[: at + 1]), at + 1) for at, relevant in enumerate(ranking) if relevant]
    return Fraction(sum(precisions), sum(ranking))


def metrics(ranking, ks):
    """Metrics of one ranking, a list of booleans."""
    out = {"mAP": average_precision(ranking)}
    for k in ks:
        found = sum(ranking[:k])
        out[f"P@{k}"] = Fraction(found, min(k, len(ranking)))
        out[f"R@{k}"] = Fraction(found, sum(ranking))
        out[f"hit@{k}"] = Fraction(found > 0)
    return out


def expected(distances, relevant, ks):
    """Return ``{metric: (mean, lowest, highest)}`` over all orders, or None without a relevant item."""
    if not any(relevant):
        return None
    # Orders that look alike are counted, not measured again.
    seen = {}
    for order in orders(distances):
        ranking = tuple(bool(relevant[item]) for item in order)
        seen[ranking] = seen.get(ranking, 0) + 1
    measured = [(metrics(list(ranking), ks), times) for ranking, times in seen.items()]
    total = sum(seen.values())
    return {
        name: (
            sum(values[name] * times for values, times in measured) / total,
            min(values[name] for values, _ in measured),
            max(values[name] for values, _ in measured),
        )
        for name in measured[0][0]
    }


def over_queries(distances, relevant, ks):
    """Return ``{metric: (value, low, high)}`` averaged over the queries that have a relevant item."""
    each = [expected(d, r, ks) for d, r in zip(distances, relevant, strict=True)]
    each = [values for values in each if values is not None]
    return {
        name: tuple(float(sum(values[name][at] for values in each) / len(each)) for at in range(3))
        for name in (each[0] if each else ())
    }


def hamming(one, other):
    """Differing bits of two byte strings."""
    return sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(one, other, strict=True))
