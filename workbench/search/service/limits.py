"""The limits of the search service."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields

from workbench.errors import BadInput

#: Environment variable: JSON of the limits to change, such as ``{"open_indexes": 2}``.
LIMITS = "WORKBENCH_SEARCH_LIMITS"


@dataclass(frozen=True)
class Limits:
    """Limits on the load that clients can cause; times are in seconds.

    Attributes
    ----------
    open_indexes : int
        Maximum number of holders; beyond it the least recently used one is closed.
    memory : int
        Maximum memory of all holders together, in bytes; beyond it the least recently used one is closed. A
        holder that exceeds it alone is killed.
    waiting : int
        Maximum number of requests in the queue of one holder; further ones are refused as busy.
    pictures : int
        The same for searches with a picture, which wait in a queue of their own while others are answered.
    connections : int
        Maximum number of concurrent requests to the service.
    read_seconds : float
        A client that has not sent its whole request after this long, or not read the answer, is disconnected.
    open_seconds, answer_seconds, check_seconds : float
        Timeouts for opening an index, answering one search, and checking options, which includes starting a
        process and importing the adapter. A holder that takes longer is killed.
    failures, failure_seconds : int, float
        After this many failures within this time, a holder is not restarted until the time is over.
    idle_seconds : float
        A holder that is idle for this long is closed, and so is the service.
    adapter_idle_seconds : float
        The same for holders that only serve an adapter's options; short, so that changes to an adapter are
        noticed soon.
    """

    open_indexes: int = 6
    memory: int = 8 * 2**30
    waiting: int = 16
    pictures: int = 8
    connections: int = 256
    read_seconds: float = 15.0
    open_seconds: float = 120.0
    answer_seconds: float = 60.0
    check_seconds: float = 60.0
    failures: int = 3
    failure_seconds: float = 60.0
    idle_seconds: float = 1200.0
    adapter_idle_seconds: float = 60.0

    @classmethod
    def from_environment(cls) -> Limits:
        """Return the limits, with the changes from ``$WORKBENCH_SEARCH_LIMITS``.

        Raises
        ------
        BadInput
            It is not a JSON object that maps these names to numbers.
        """
        try:
            changes = json.loads(os.environ.get(LIMITS) or "{}")
            defaults = asdict(cls())
            return cls(**{name: type(defaults.get(name, 0.0))(value) for name, value in changes.items()})
        except (ValueError, TypeError, AttributeError) as error:
            known = ", ".join(field.name for field in fields(cls))
            raise BadInput(
                f"${LIMITS} is invalid: {error}", advice=f"It must be a JSON object with any of: {known}"
            ) from None
