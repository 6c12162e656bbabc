"""Posting one batch until each of its entries has its own result or error, whatever fails meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from structlog.typing import FilteringBoundLogger

from services.mesh.database import NOT_TEXT, is_conflict, is_not_text, is_trouble, sqlstate
from services.mesh.errors import Internal, InvalidArgument, OutcomeUnknown, SampanError, Unavailable
from services.mesh.fast_database import Lost
from services.mesh.lanes import Waiting

Entry = TypeVar("Entry")
Result = TypeVar("Result")
Entry_contra = TypeVar("Entry_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)

# Data exception and integrity violation: some entry is to blame.
_DATA = ("22", "23")
# The first pause before another try, in seconds; it doubles, and each is between a half and all of it.
_PAUSE = 0.01


# Parts of a batch that are to be posted yet, each with the number of the try that this will be.
Parts = list[tuple[list[Waiting[Entry, Result]], int]]


class Store(Protocol[Entry_contra, Result_co]):
    """Where batches go: the repository of a context. Entries have their keys before they come here."""

    async def post(self, batch: Sequence[Entry_contra]) -> Sequence[Result_co | SampanError]:
        """Stores a batch in one transaction; for each entry its result or its own error, in order.

        An entry whose key is stored already gets the result of then. Raises Unavailable when nothing was
        done, OutcomeUnknown when that is not known, and any other SampanError, or what the driver raised,
        when an entry is to blame: then the batch is cut until that one stands alone.
        """
        ...

    async def find(self, entries: Sequence[Entry_contra]) -> Sequence[Result_co | None]:
        """What is stored under the keys of entries, in order. Raises Unavailable."""
        ...


@dataclass(slots=True)
class Counters:
    """What happened so far. `last_window` in seconds, of the newest batch."""

    batches: int = 0
    entries: int = 0
    halvings: int = 0
    retries: int = 0
    unknown: int = 0
    dropped: int = 0
    refused: int = 0
    last_batch: int = 0
    last_window: float = 0.0


class Posting(Generic[Entry, Result]):
    """Takes batches to a store.

    `tries` bounds how often a part is posted, `patience` the seconds of asking what became of it.
    """

    def __init__(
        self,
        store: Store[Entry, Result],
        *,
        tries: int,
        patience: float,
        counters: Counters,
        log: FilteringBoundLogger,
    ) -> None:
        self._store = store
        self._tries = tries
        self._patience = patience
        self._counters = counters
        self._log = log

    async def run(self, batch: list[Waiting[Entry, Result]]) -> None:
        """Answers every entry of a batch; never raises but when it is cancelled."""
        parts = [(batch, 1)]
        try:
            while parts:
                part, attempt = parts.pop()
                # Parts follow one another in order, so that lanes keep theirs.
                parts.extend(reversed(await self._post(part, attempt)))
        except BaseException:
            for waiting in batch:
                waiting.answer(OutcomeUnknown())
            raise

    async def _post(self, part: list[Waiting[Entry, Result]], attempt: int) -> Parts[Entry, Result]:
        """One try; returns what is to be posted yet."""
        try:
            answers = await self._store.post([waiting.entry for waiting in part])
            if len(answers) != len(part):
                raise RuntimeError(f"{len(answers)} answers to {len(part)} entries")  # noqa: TRY301
        except OutcomeUnknown as error:
            left = await self._resolve(part, error)
            return self._again(left, attempt)
        except Exception as error:
            return await self._failed(part, attempt, error)
        for waiting, answer in zip(part, answers, strict=True):
            waiting.answer(answer)
        return []

    async def _failed(
        self, part: list[Waiting[Entry, Result]], attempt: int, error: Exception
    ) -> Parts[Entry, Result]:
        if is_conflict(error):
            await asyncio.sleep(_jittered(attempt))
            return self._again(part, attempt)
        if isinstance(error, Unavailable) or is_trouble(error):
            return _tell(part, Unavailable)
        state = sqlstate(error)
        if not isinstance(error, SampanError) and state[:2] not in _DATA:
            self._log.error("group_commit.failed", error=type(error).__name__, sqlstate=state)
            return _tell(part, Internal)
        if len(part) == 1:
            part[0].answer(self._blamed(error))
            return []
        self._counters.halvings += 1
        middle = len(part) // 2
        return [(part[:middle], attempt), (part[middle:], attempt)]

    def _blamed(self, error: Exception) -> SampanError:
        """What the caller of the one entry that is to blame is told."""
        if isinstance(error, SampanError):
            return error
        if is_not_text(error):
            return InvalidArgument(NOT_TEXT)
        self._log.error("group_commit.entry_failed", error=type(error).__name__, sqlstate=sqlstate(error))
        return Internal()

    def _again(self, part: list[Waiting[Entry, Result]], attempt: int) -> Parts[Entry, Result]:
        """Another try for what is known not to be done, while there are tries left."""
        if not part:
            return []
        if attempt >= self._tries:
            return _tell(part, Unavailable)
        self._counters.retries += 1
        return [(part, attempt + 1)]

    async def _resolve(
        self, part: list[Waiting[Entry, Result]], error: OutcomeUnknown
    ) -> list[Waiting[Entry, Result]]:
        """Finds out what became of a part, and answers what it knows; returns what was certainly not done."""
        self._counters.unknown += 1
        try:
            async with asyncio.timeout(self._patience):
                found = await self._ask(part, error)
        except Exception as failure:
            self._log.warning("group_commit.unknown", entries=len(part), error=type(failure).__name__)
            _tell(part, OutcomeUnknown)
            return []
        not_done = []
        for waiting, result in zip(part, found, strict=True):
            if result is not None:
                waiting.answer(result)
            elif isinstance(error, Lost):
                not_done.append(waiting)
            else:
                # Not found is no proof where what was sent may still be under way.
                waiting.answer(OutcomeUnknown())
        return not_done

    async def _ask(
        self, part: list[Waiting[Entry, Result]], error: OutcomeUnknown
    ) -> Sequence[Result | None]:
        attempt = 0
        while True:
            attempt += 1
            try:
                if isinstance(error, Lost):
                    await error.settle()
                return await self._store.find([waiting.entry for waiting in part])
            except Exception as failure:
                if not (isinstance(failure, Unavailable) or is_trouble(failure)):
                    raise
            await asyncio.sleep(_jittered(attempt))


def _tell(part: list[Waiting[Entry, Result]], why: type[SampanError]) -> Parts[Entry, Result]:
    """The same error for all of a part; each its own, since raising one leaves traces on it."""
    for waiting in part:
        waiting.answer(why())
    return []


def _jittered(attempt: int) -> float:
    """Seconds to wait after a try, so that those who met do not meet again."""
    return min(0.25, _PAUSE * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1)  # noqa: S311 - not a secret
