"""Pages of lists: page tokens that only this service can make, and the cut of one page."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.mesh.errors import InvalidArgument, Violation
from services.mesh.vault import keyed_hash

# What a list gives when its caller leaves the limit open; the contract states it on the field.
DEFAULT_LIMIT = 10

_MAC_BYTES = 16

Item = TypeVar("Item")


class PageTokenInvalid(InvalidArgument):
    """A page token that this list did not give."""

    def __init__(self) -> None:
        message = "is not a next_page_token of this list"
        super().__init__(violations=(Violation("page_token", "page_token.known", message),))


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """One page. `next_page_token` is empty on the last one."""

    items: Sequence[Item]
    next_page_token: str

    @property
    def has_more(self) -> bool:
        """Whether there is a next page."""
        return bool(self.next_page_token)


class PageTokens:
    """Makes and reads the page tokens of one list.

    A token holds the position of the last item shown, so that a page begins after it whatever was added or
    removed meanwhile. It is signed: positions are compared in SQL and must be what the list itself gave.
    `scope` names the list and what it was filtered by: a token of one list is refused by another. All
    replicas of a service need the same `key`, 32 bytes.
    """

    def __init__(self, key: bytes, scope: str) -> None:
        self._key = key
        self._scope = scope

    def make(self, *position: str) -> str:
        """The token of a position, base64url."""
        return self._signed(json.dumps(position, separators=(",", ":")))

    def read(self, token: str) -> tuple[str, ...] | None:
        """The position of a token; None for the empty one, which means the first page.

        Raises PageTokenInvalid.
        """
        if not token:
            return None
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
            text = raw[_MAC_BYTES:].decode()
        except ValueError as error:
            raise PageTokenInvalid from error
        # The whole token is compared, so that there is one form of it only.
        if not hmac.compare_digest(self._signed(text).encode(), token.encode()):
            raise PageTokenInvalid
        return tuple(json.loads(text))

    def _signed(self, text: str) -> str:
        mac = keyed_hash(self._key, self._scope, text)[:_MAC_BYTES]
        return base64.urlsafe_b64encode(mac + text.encode()).rstrip(b"=").decode()

    def page(
        self, found: Sequence[Item], limit: int, position: Callable[[Item], Sequence[str]]
    ) -> Page[Item]:
        """One page of what was found by asking for `limit` + 1 items: one too many tells of a next page."""
        shown = found[:limit]
        more = len(found) > limit
        return Page(shown, self.make(*position(shown[-1])) if more else "")
