"""The published metrics, query by query, written from their definitions and not from their code.

``ranked`` is a list of rankings, one per query: the relevance (a grade) of each item, nearest first, with
items at equal distance in the protocol's order.
"""

import math


def dcmh(ranked):
    """Whole ranking; a query without a relevant item counts as zero."""
    total = 0.0
    for ranking in ranked:
        hits, precisions = 0, []
        for rank, grade in enumerate(ranking, 1):
            if grade:
                hits += 1
                precisions.append(hits / rank)
        if hits:
            total += sum(precisions) / hits
    return total / len(ranked)


def mith(ranked, k):
    """The first k relevant items, at any rank."""
    total = 0.0
    for ranking in ranked:
        ranks = [rank for rank, grade in enumerate(ranking, 1) if grade][:k]
        if ranks:
            total += sum(number / rank for number, rank in enumerate(ranks, 1)) / len(ranks)
    return total / len(ranked)


def ucch(ranked, k):
    """The first k items, divided by their hits; queries without a hit are excluded from the mean."""
    values = []
    for ranking in ranked:
        ranks = [rank for rank, grade in enumerate(ranking[:k], 1) if grade]
        if ranks:
            values.append(sum(number / rank for number, rank in enumerate(ranks, 1)) / len(ranks))
    return sum(values) / len(values) if values else math.nan


def top_hits(ranked, k):
    """The first k items, divided by their hits; a query without a hit counts as zero."""
    values = []
    for ranking in ranked:
        ranks = [rank for rank, grade in enumerate(ranking[:k], 1) if grade]
        hits = [number / rank for number, rank in enumerate(ranks, 1)]
        values.append(sum(hits) / len(hits) if hits else 0.0)
    return sum(values) / len(values)


def clip(ranked, k):
    """Share of the queries with any relevant item among the first k."""
    return sum(any(ranking[:k]) for ranking in ranked) / len(ranked)


def trec(ranked, k):
    """map, map_cut, P, recall, success, ndcg_cut and recip_rank as in trec_eval's manual."""
    judged = [ranking for ranking in ranked if any(ranking)]

    def mean(values):
        return sum(values) / len(judged) if judged else math.nan

    def precision_sum(ranking, depth):
        hits = [bool(grade) for grade in ranking]
        return sum(sum(hits[: at + 1]) / (at + 1) for at in range(min(depth, len(hits))) if hits[at])

    def dcg(grades):
        return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades[:k], 1))

    return {
        "mAP": mean([precision_sum(r, len(r)) / sum(map(bool, r)) for r in judged]),
        f"mAP@{k}": mean([precision_sum(r, k) / sum(map(bool, r)) for r in judged]),
        f"P@{k}": mean([sum(map(bool, r[:k])) / k for r in judged]),
        f"R@{k}": mean([sum(map(bool, r[:k])) / sum(map(bool, r)) for r in judged]),
        f"hit@{k}": mean([float(any(r[:k])) for r in judged]),
        f"NDCG@{k}": mean([dcg(r) / dcg(sorted(r, reverse=True)) for r in judged]),
        "MRR": mean([1 / (1 + [bool(grade) for grade in r].index(True)) for r in judged]),
    }
