"""The ledger as one would write it down: a few integers for each person, and what each step does to them."""

from __future__ import annotations

from dataclasses import dataclass, field

BEGINNING = 1_000
DAILY = 2_000
PEOPLE = 3


def fee_of(amount: int) -> int:
    """A payment costs 2, and a hundredth of it."""
    return 2 + (amount * 100 + 5_000) // 10_000


@dataclass
class Purse:
    """Of one person."""

    balance: int = BEGINNING
    held: int = 0
    spent: int = 0
    suspended: bool = False

    @property
    def available(self) -> int:
        return self.balance - self.held


@dataclass
class Held:
    """A hold. That of a service has a tombstone when it was released before it came."""

    payer: int
    payee: int
    amount: int
    service: bool = False
    captured: int = 0
    status: str = "pending"

    @property
    def rest(self) -> int:
        return self.amount - self.captured if self.status == "pending" else 0


@dataclass
class Paid:
    """A payment or a capture, which can be given back."""

    payer: int
    payee: int
    amount: int
    refunded: int = 0


@dataclass
class Asked:
    """A top-up."""

    who: int
    amount: int
    paid: bool = False


@dataclass
class Model:
    """Everybody's purse, and what our own accounts have. Each step tells why it is refused, or nothing."""

    purses: list[Purse] = field(default_factory=lambda: [Purse() for _ in range(PEOPLE)])
    fees: int = 0
    clearing: int = 0
    review: int = 0
    holds: list[Held] = field(default_factory=list)
    paid: list[Paid] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def send(self, one: int, other: int, amount: int) -> str:
        fee = fee_of(amount)
        refused = self._refused(one, other, amount + fee) or self._over(one, amount)
        if not refused:
            self._move(one, other, amount)
            self.purses[one].balance -= fee
            self.purses[one].spent += amount
            self.fees += fee
            self.paid.append(Paid(one, other, amount))
        return refused

    def transfer(self, one: int, other: int, amount: int) -> str:
        refused = self._refused(one, other, amount)
        if not refused:
            self._move(one, other, amount)
        return refused

    def hold(self, one: int, other: int, amount: int, *, service: bool) -> str:
        refused = self._refused(one, other, amount) or self._over(one, amount)
        if not refused:
            self.purses[one].held += amount
            self.purses[one].spent += amount
            self.holds.append(Held(one, other, amount, service))
        return refused

    def bury(self) -> None:
        """A service releases a hold that has not come."""
        self.holds.append(Held(0, 0, 0, service=True, status="buried"))

    def place_again(self, hold: Held) -> str:
        return "" if hold.status in ("pending", "captured") else "HOLD_CLOSED"

    def capture(self, hold: Held, by: int | None, amount: int, *, final: bool) -> str:
        """By a person, or by the service for None."""
        refused = self._hidden(hold, by)
        if refused:
            return refused
        if hold.status != "pending":
            return "HOLD_CLOSED"
        amount = amount or hold.rest
        if amount > hold.rest:
            return "CAPTURE_EXCEEDED"
        refused = self._suspended(hold.payer, hold.payee)
        if not refused:
            rest = hold.rest - amount
            hold.captured += amount
            self.purses[hold.payer].held -= amount
            self._move(hold.payer, hold.payee, amount)
            self.paid.append(Paid(hold.payer, hold.payee, amount))
            if final or not rest:
                self._let_go(hold, rest, "captured")
        return refused

    def void(self, hold: Held, by: int | None) -> str:
        refused = self._hidden(hold, by, release=True)
        if refused:
            return refused
        if by is not None and by != hold.payee:
            return "PERMISSION_DENIED"
        if hold.status == "pending":
            self._let_go(hold, hold.rest, "voided")
        return "HOLD_CLOSED" if hold.status == "captured" else ""

    def refund(self, paid: Paid, by: int, amount: int) -> str:
        if by not in (paid.payer, paid.payee):
            return "TRANSACTION_NOT_FOUND"
        if by != paid.payee:
            return "PERMISSION_DENIED"
        left = paid.amount - paid.refunded
        amount = amount or left
        if not 0 < amount <= left:
            return "REFUND_EXCEEDED"
        refused = self._refused(paid.payee, paid.payer, amount)
        if not refused:
            self._move(paid.payee, paid.payer, amount)
            paid.refunded += amount
        return refused

    def ask(self, who: int, amount: int) -> str:
        if self.purses[who].suspended:
            return "ACCOUNT_SUSPENDED"
        self.asked.append(Asked(who, amount))
        return ""

    def bank_pays(self, asked: Asked, amount: int) -> str:
        """What becomes of the money: `credited`, or `review`."""
        fits = not asked.paid and amount == asked.amount and not self.purses[asked.who].suspended
        asked.paid = True
        self.clearing -= amount
        if fits:
            self.purses[asked.who].balance += amount
        else:
            self.review += amount
        return "credited" if fits else "review"

    def _move(self, one: int, other: int, amount: int) -> None:
        self.purses[one].balance -= amount
        self.purses[other].balance += amount

    def _let_go(self, hold: Held, rest: int, status: str) -> None:
        self.purses[hold.payer].held -= rest
        self.purses[hold.payer].spent = max(0, self.purses[hold.payer].spent - rest)
        hold.status = status

    def _refused(self, one: int, other: int, amount: int) -> str:
        if one == other:
            return "SELF_TRANSFER"
        return self._suspended(one, other) or (
            "INSUFFICIENT_FUNDS" if self.purses[one].available < amount else ""
        )

    def _suspended(self, one: int, other: int) -> str:
        if self.purses[one].suspended:
            return "ACCOUNT_SUSPENDED"
        return "RECIPIENT_NOT_FOUND" if self.purses[other].suspended else ""

    def _over(self, one: int, amount: int) -> str:
        return "DAILY_LIMIT_EXCEEDED" if self.purses[one].spent + amount > DAILY else ""

    def _hidden(self, hold: Held, by: int | None, *, release: bool = False) -> str:
        """Who has nothing to do with a hold."""
        if hold.status == "buried":
            return "" if release and by is None else "HOLD_NOT_FOUND"
        if by is None:
            return "" if hold.service else "HOLD_NOT_FOUND"
        if by not in (hold.payer, hold.payee):
            return "HOLD_NOT_FOUND"
        return "PERMISSION_DENIED" if hold.service else ""
