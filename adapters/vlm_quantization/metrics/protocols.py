"""Evaluation protocols by name: the rules behind published numbers.

Every published mAP of a retrieval code follows some evaluation script, which decides where the ranking is
cut, what average precision is divided by, how items at equal distance are ordered, and how a query without a
relevant item counts. Numbers of different protocols are not comparable; those of one protocol can be
reproduced by its name::

    evaluate_codes(query_codes, gallery_codes, relevance, protocol="djsrh")

Each function below is one protocol; its docstring cites the code it was read from. Where that code leaves
the order of ties to an unstable sort (``numpy.argsort`` and ``torch.sort`` without ``stable``), ties are
ordered by gallery row here, as by a stable sort; the bounds of every value cover all other orders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import workbench as wb

Divisor = Literal["relevant", "reachable", "hits", "first"]


Ties = Literal["expected", "pessimistic", "optimistic", "id", "id descending"]


Empty = Literal["skip", "zero", "error"]


_DIVISORS: dict[str, str] = {
    "relevant": "divided by the number of relevant items in the gallery",
    "reachable": "divided by the number of relevant items, or by the cut-off if that is smaller",
    "hits": "divided by the number of relevant items before the cut-off",
    "first": "the mean of the precisions at the first relevant items, at any rank",
}


_TIES: dict[str, str] = {
    "expected": "ties by closed-form expectation over all orders",
    "pessimistic": "ties in the worst order",
    "optimistic": "ties in the best order",
    "id": "ties by item id",
    "id descending": "ties by item id, descending",
}


_EMPTY: dict[str, str] = {
    "skip": "queries without a relevant item are left out and counted",
    "zero": "queries without a relevant item count as zero",
    "error": "a query without a relevant item is an error",
}


@dataclass(frozen=True)
class Protocol:
    """The rules of an evaluation.

    Attributes
    ----------
    name : str
        Name of the protocol.
    source : str
        Source of the rules.
    k : int or None
        Cut-off of the ranking for ``mAP``; None for the whole ranking.
    divisor : {"relevant", "reachable", "hits", "first"}
        What the average precision of a query is divided by: all relevant items, at most k of them, or those
        before the cut-off; ``"first"`` averages over the first k relevant items at any rank.
    ties : {"expected", "pessimistic", "optimistic", "id", "id descending"}
        How items at equal distance are ordered.
    empty : {"skip", "zero", "error"}
        How queries without a relevant item in the gallery count.
    misses : {"zero", "skip"}
        How the average precision of a query without a relevant item *before the cut-off* counts: as zero, or
        not at all. It matters only with the divisor ``"hits"``.
    recall : {"true", "hit"}
        What ``R@k`` is: the share of the relevant items among the first k, or whether there is any.
    precision : {"reachable", "k"}
        What ``P@k`` divides by in a gallery smaller than k: the size of the gallery, or still k.
    gain : {"exponential", "linear"}
        Gain of a grade g in NDCG: 2^g - 1, or g.
    splits : mapping of str to mapping of str to int
        Sizes of query set, gallery and training set by data set, as that line uses them.
    """

    name: str
    source: str
    k: int | None = None
    divisor: Divisor = "reachable"
    ties: Ties = "expected"
    empty: Empty = "skip"
    misses: Literal["zero", "skip"] = "zero"
    recall: Literal["true", "hit"] = "true"
    precision: Literal["reachable", "k"] = "reachable"
    gain: Literal["exponential", "linear"] = "exponential"
    splits: Mapping[str, Mapping[str, int]] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name, allowed in (("divisor", _DIVISORS), ("ties", _TIES), ("empty", _EMPTY)):
            value = getattr(self, name)
            if value not in allowed:
                raise wb.BadInput(
                    f"protocol {self.name!r}: unknown {name} {value!r}. Allowed: {', '.join(allowed)}"
                )
        if self.k is not None and (isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1):
            raise wb.BadInput(f"protocol {self.name!r}: k must be at least 1 or None, not {self.k!r}")

    @property
    def words(self) -> str:
        """The rules in words, for display."""
        if self.divisor == "first" and self.k is None:
            cut = "AP over the whole ranking, " + _DIVISORS["relevant"]
        elif self.divisor == "first":
            cut = f"AP: {_DIVISORS['first']} (at most {self.k:,})"
        elif self.k is None:  # without a cut-off, all relevant items are before it
            cut = f"AP over the whole ranking, {_DIVISORS['relevant']}"
        else:
            cut = f"AP over the first {self.k:,}, {_DIVISORS[self.divisor]}"
        recall = "; R@k is a hit rate (any relevant item among the first k)" if self.recall == "hit" else ""
        return f"Protocol “{self.name}”: {cut}; {_TIES[self.ties]}; {_EMPTY[self.empty]}{recall}."


def default() -> Protocol:
    """Ours: the whole ranking, true recall, ties by expectation, with the worst and the best order as bounds.

    A cut-off or an order of ties is a free parameter that can change which of two models wins, so there is
    neither. A query without a relevant item says nothing about the model: it is left out, and the number of
    such queries is reported. Expectations: McSherry and Najork, ECIR 2008; He, Cakir, Bargal and Sclaroff,
    CVPR 2018.
    """
    return Protocol(name="default", source="McSherry and Najork, ECIR 2008; He et al., CVPR 2018")


def dcmh() -> Protocol:
    """Deep cross-modal hashing (Jiang and Li, CVPR 2017).

    From github.com/jiangqy/DCMH-CVPR2017, ``calcMapTopkMapTopkPreTopkRecLabel.m``: mAP over the whole
    ranking; ties in row order, as by MATLAB's stable sort; a query without a relevant item counts as zero.
    Its top-k mAP divides by the hits before the cut-off. Split of MIRFLICKR-25K from ``DCMH_demo.m`` and
    ``DCMH_demo.py``: 2,000 random queries; the other 18,015 are the gallery, and 10,000 of those are the
    training set.
    """
    return Protocol(
        name="dcmh",
        source="github.com/jiangqy/DCMH-CVPR2017",
        divisor="hits",
        ties="id",
        empty="zero",
        precision="k",
        splits={"MIRFLICKR-25K": {"query": 2_000, "gallery": 18_015, "train": 10_000}},
    )


def mith() -> Protocol:
    """Multi-granularity interactive transformer hashing (Liu et al., ACM MM 2023), and work using its script.

    From github.com/DarrenZZhang/MITH, ``utils/calc_utils.py`` (``calc_map_k``): the mean of the precisions at
    the first k relevant items at any rank, with k = all in its own runs; a query without a relevant item
    counts as zero. Splits from ``run_MITH.sh``; the gallery is everything but the queries, and contains the
    training pictures (``load_data.py``).
    """
    return Protocol(
        name="mith",
        source="github.com/DarrenZZhang/MITH",
        divisor="first",
        ties="id",
        empty="zero",
        splits={
            "MIRFLICKR-25K": {"query": 2_000, "train": 10_000},
            "MS COCO": {"query": 5_000, "train": 10_000},
            "NUS-WIDE": {"query": 2_100, "train": 10_500},
        },
    )


def ucch() -> Protocol:
    """Unsupervised contrastive cross-modal hashing (Hu et al., TPAMI 2023).

    From github.com/penghu-cs/UCCH, ``UCCH.py`` (``fx_calc_map_multilabel_k``): whole ranking in the paper's
    runs (k = 0), divided by the hits before the cut-off; a query without a hit before the cut-off is excluded
    from the mean. Splits from ``src/cmdataset.py``: the last rows are the queries; all others are both
    training set and gallery.
    """
    return Protocol(
        name="ucch",
        source="github.com/penghu-cs/UCCH",
        divisor="hits",
        ties="id",
        empty="skip",
        misses="skip",
        splits={
            "MIRFLICKR-25K": {"query": 2_000},
            "NUS-WIDE-TC10": {"query": 2_100},
            "IAPR TC-12": {"query": 2_000},
            "MS COCO": {"query": 5_000},
        },
    )


def djsrh() -> Protocol:
    """Deep joint-semantics reconstructing hashing (Su, Zhong and Zhang, ICCV 2019), and its successors.

    From github.com/zs-zhong/DJSRH, ``metric.py`` (``calculate_top_map``) and ``train.py`` (``topk=50``): the
    first 50, divided by the hits among them; a query without a hit counts as zero. Splits from
    ``datasets.py``: 160 queries of the first label and 80 of each other (MIRFlickr, 2,000 in total, at least
    5,000 for training), 200 of each of ten labels (NUS-WIDE); the gallery is everything but the queries.
    """
    return Protocol(
        name="djsrh",
        source="github.com/zs-zhong/DJSRH",
        k=50,
        divisor="hits",
        ties="id",
        empty="zero",
        splits={
            "MIRFLICKR-25K": {"query": 2_000, "train": 5_000},
            "NUS-WIDE": {"query": 2_000, "train": 5_000},
        },
    )


def deephash() -> Protocol:
    """Image hashing as reported by swuxyj's benchmark.

    From github.com/swuxyj/DeepHash-pytorch, ``utils/tools.py`` (``CalcTopMap``, ``config_dataset``): the
    first 5,000 (NUS-WIDE, COCO; 1,000 for ImageNet, all but the last for the others, whose ``topK=-1`` is
    used as a slice), divided by the hits among them; a query without a hit counts as zero. Splits from its
    ``data/`` folder and ``cifar_dataset``.
    """
    return Protocol(
        name="deephash",
        source="github.com/swuxyj/DeepHash-pytorch",
        k=5_000,
        divisor="hits",
        ties="id",
        empty="zero",
        splits={
            "CIFAR-10": {"query": 1_000, "gallery": 54_000, "train": 5_000},
            "NUS-WIDE-21": {"query": 2_100, "train": 10_500},
            "MS COCO": {"query": 5_000, "train": 10_000},
            "ImageNet-100": {"query": 5_000, "train": 13_000},
            "MIRFLICKR-25K": {"query": 1_000, "gallery": 20_000, "train": 4_000},
        },
    )


def clip() -> Protocol:
    """Image-text retrieval as reported for CLIP and similar models (Radford et al., ICML 2021).

    From github.com/LAION-AI/CLIP_benchmark, ``clip_benchmark/metrics/zeroshot_retrieval.py``: ``R@k`` of a
    query is 1 if any relevant item is among its k highest scores, else 0; a comment in the code notes that
    this is not recall. Every query has a relevant item there; one without would count as a miss. The usual
    test sets (Karpathy's splits) are 5,000 pictures of COCO and 1,000 of Flickr30k, five captions each.
    """
    return Protocol(
        name="clip",
        source="github.com/LAION-AI/CLIP_benchmark",
        ties="id",
        empty="zero",
        recall="hit",
        precision="k",
        splits={"MS COCO": {"images": 5_000, "captions": 25_000}, "Flickr30k": {"images": 1_000}},
    )


def trec() -> Protocol:
    """Text retrieval as reported by trec_eval (Buckley and Voorhees; NIST).

    From github.com/usnistgov/trec_eval, ``m_map.c``, ``m_map_cut.c``, ``m_P.c``, ``m_recall.c``,
    ``m_ndcg_cut.c``, ``m_recip_rank.c``, ``form_res_rels.c``: AP is divided by all relevant items, with or
    without a cut-off; P@k divides by k even if fewer items are returned; gains are linear in the grade; items
    with equal scores are ordered by descending document id; only topics with judgements are averaged. For
    items without ids, the row number is the id.
    """
    return Protocol(
        name="trec",
        source="github.com/usnistgov/trec_eval",
        divisor="relevant",
        ties="id descending",
        empty="skip",
        precision="k",
        gain="linear",
    )


#: The protocols by name.
PROTOCOLS: dict[str, Protocol] = {
    make.__name__: make() for make in (default, dcmh, mith, ucch, djsrh, deephash, clip, trec)
}


def protocol_of(protocol: str | Protocol) -> Protocol:
    """Return a protocol by name; a :class:`Protocol` is returned unchanged.

    Raises
    ------
    workbench.BadInput
        No protocol has that name; the message lists the known ones.
    """
    if isinstance(protocol, Protocol):
        return protocol
    try:
        return PROTOCOLS[protocol]
    except (KeyError, TypeError):
        raise wb.BadInput(f"unknown protocol {protocol!r}. Known: {', '.join(sorted(PROTOCOLS))}") from None
