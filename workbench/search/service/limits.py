"""How much of everything the search service allows."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields

from workbench.errors import BadInput

#: Environment variable: JSON of the limits that shall be others, such as ``{"open_indexes": 2}``.
LIMITS = "WORKBENCH_SEARCH_LIMITS"


@dataclass(frozen=True)
class Limits:
    """Numbers that bound what visitors can make the service do; times are in seconds.

    Attributes
    ----------
    open_indexes : int
        Holders at once; for one more, the one that was not asked for the longest time is closed.
    memory : int
        Bytes that all holders may have in memory together, likewise; one that has more by itself is killed.
    waiting : int
        Questions that wait for one holder; the next is told that it is busy.
    connections : int
        Questions at once, whoever is asked.
    open_seconds, answer_seconds, check_seconds : float
        How long a holder may take to open its index, to answer one search, and to check options. One that
        takes longer is killed.
    failures, failure_seconds : int, float
        A holder that broke so often within that time is left alone until the time is over.
    idle_seconds : float
        A holder that nobody asked for so long is closed, and then the service leaves.
    adapter_idle_seconds : float
        The same for holders that only tell an adapter's options: short, so that an adapter which was changed
        is soon seen as it is.
    """

    open_indexes: int = 6
    memory: int = 8 * 2**30
    waiting: int = 16
    connections: int = 256
    open_seconds: float = 120.0
    answer_seconds: float = 30.0
    check_seconds: float = 20.0
    failures: int = 3
    failure_seconds: float = 60.0
    idle_seconds: float = 1200.0
    adapter_idle_seconds: float = 60.0

    @classmethod
    def from_environment(cls) -> Limits:
        """Return the limits, with what ``$WORKBENCH_SEARCH_LIMITS`` says instead.

        Raises
        ------
        BadInput
            It is no JSON object of numbers with these names.
        """
        try:
            given = json.loads(os.environ.get(LIMITS) or "{}")
            usual = asdict(cls())
            return cls(**{name: type(usual.get(name, 0.0))(value) for name, value in given.items()})
        except (ValueError, TypeError, AttributeError) as error:
            known = ", ".join(field.name for field in fields(cls))
            raise BadInput(f"${LIMITS} cannot be used: {error}", hint=f"A JSON object of: {known}") from None
