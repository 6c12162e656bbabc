"""The suite `payment`: what a payment costs, alone, in batches and all to one, beside TPC-B."""

from __future__ import annotations

import asyncio
import random
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from sampan.payment.v1 import payment_service_pb2 as api
from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from services.stack import binaries
from services.stack.bench.measuring import Case, Effort, Tell, chosen, interleaved
from services.stack.bench.rig import People, Rig
from services.stack.bench.statistics import Figure, Round, rate_figure, summary
from services.stack.bench.wire import Target, grpc_message
from services.stack.errors import StackError

if TYPE_CHECKING:
    # Of the stubs' types only.
    from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceAsyncStub
    from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceAsyncStub

SEND = "/sampan.payment.v1.PaymentService/SendMoney"
MONEY, POSTGRES = "money", "postgres"
# A service that may call CreateTransfers; its certificate comes from the stack's own authority.
CALLER = "commerce"
PER_CALL = 1_000
# Calls of CreateTransfers under way: 4000 transfers.
CALLS = 4
# Of pgbench, as many as the loader keeps in flight; each has a branch of its own.
CLIENTS = 32
DATABASE = "sampan_bench_tpcb"
BESIDE_PGBENCH = "payment.send_unary_pgbench"
# Minor units that everybody begins with: never less than they send.
RICH = 1_000_000_000_000
# Transfers of the full ledger, how many write them at once, and how often it is compared with the empty one.
FILLED = 5_000_000
WRITERS = 2
ROUNDS = 15


@dataclass(frozen=True, slots=True)
class Cast:
    """Who pays whom: people, their wallets in the same order, and a merchant."""

    people: People
    wallets: tuple[str, ...]
    merchant: str


def payment(rig: Rig, effort: Effort, tell: Tell) -> list[Figure]:
    """Payments against the same chain with an empty method, and against TPC-B by pgbench."""
    tell("makes wallets and puts money into them")
    cast = asyncio.run(invite(rig))
    chain_echo = rig.probe()
    with tpcb(rig, tell) as run_tpcb:
        unary = Case("payment.send_unary", unary_target(rig, cast), (MONEY, POSTGRES), limit="chain_echo")
        echo = Case("chain_echo", chain_echo, ("probe",))
        wants_millions = effort.wants_long("payment.send_among_millions")
        figures = among_millions(rig, effort, tell, unary, echo) if wants_millions else []
        cases = [
            Case("pgbench_tpcb", chain_echo, (POSTGRES,), load=run_tpcb),
            unary,
            echo,
            Case("payment.hot_wallet", hot_target(rig, cast), (MONEY, POSTGRES), limit="payment.send_unary"),
            batch_case(rig, cast, chain_echo),
            unary.sparse(),
            echo.sparse(),
        ]
        cases = chosen(cases, effort, {BESIDE_PGBENCH: (unary.name, "pgbench_tpcb")})
        if not cases:
            return figures
        rounds, usage = interleaved(rig, cases, effort, tell)
    limits = {case.name: case.limit for case in cases}
    if unary.name in rounds and "pgbench_tpcb" in rounds:
        # The same calls under another name, beside what the database does without us.
        rounds[BESIDE_PGBENCH], usage[BESIDE_PGBENCH] = rounds[unary.name], usage[unary.name]
        limits[BESIDE_PGBENCH] = "pgbench_tpcb"
    for name, limit in limits.items():
        figure = rate_figure(
            "payment",
            name,
            rounds[name],
            limit_name=limit,
            limits=rounds.get(limit, ()),
            processes=usage[name],
        )
        figures.append(replace(figure, unit="transfers/s"))
    return figures


async def invite(rig: Rig) -> Cast:
    """A wallet and much money for everybody, and for a merchant."""
    merchant = await asyncio.to_thread(rig.newcomers, 1)
    tokens = (*rig.people.tokens, *merchant.tokens)
    async with rig.channel("payment") as channel:
        stub = PaymentServiceStub(channel)
        wallets = [await _new_wallet(stub, token) for token in tokens]
    connection = await asyncpg.connect(rig.database("payment"))
    try:
        for wallet in wallets:
            await connection.execute(_FUND, uuid.UUID(wallet), uuid.uuid4(), RICH)
    finally:
        await connection.close()
    return Cast(rig.people, tuple(wallets[:-1]), merchant.ids[0])


async def _new_wallet(stub: PaymentServiceAsyncStub, token: str) -> str:
    metadata = (("authorization", f"Bearer {token}"),)
    made = await stub.CreateWallet(api.CreateWalletRequest(currency="THB"), metadata=metadata, timeout=20)
    return made.id


def unary_target(rig: Rig, cast: Cast) -> Target:
    """Each to the next one."""
    others = (*cast.people.ids[1:], cast.people.ids[0])
    return _sends(rig, "payment.send_unary", cast, others)


def hot_target(rig: Rig, cast: Cast) -> Target:
    """All to the merchant."""
    return _sends(rig, "payment.hot_wallet", cast, [cast.merchant] * len(cast.wallets))


def _sends(rig: Rig, name: str, cast: Cast, others: Sequence[str]) -> Target:
    bodies = tuple(
        grpc_message(
            api.SendMoneyRequest(
                wallet_id=wallet, recipient_id=other, amount=1, currency="THB"
            ).SerializeToString()
        )
        for wallet, other in zip(cast.wallets, others, strict=True)
    )
    plain = rig.mesh_target(name, "payment", rig.service_address("payment"), SEND, b"", cast.people)
    return replace(plain, bodies=bodies)


def batch(cast: Cast, seed: int) -> internal.CreateTransfersRequest:
    """Transfers between wallets by chance."""
    chance = random.Random(seed)  # noqa: S311 - which wallets is no secret
    pairs = [chance.sample(cast.wallets, 2) for _ in range(PER_CALL)]
    return internal.CreateTransfersRequest(
        transfers=[
            internal.Transfer(wallet_id=one, to_wallet_id=other, amount=1, currency="THB")
            for one, other in pairs
        ]
    )


def batch_case(rig: Rig, cast: Cast, echo: Target) -> Case:
    """A thousand transfers a call; they are counted, not the calls."""
    batches = [batch(cast, seed) for seed in range(CALLS)]

    def load(seconds: float) -> Round:
        return asyncio.run(settle(rig, batches, seconds))

    return Case("payment.batch", echo, (MONEY, POSTGRES), limit="pgbench_tpcb", load=load)


async def settle(rig: Rig, batches: Sequence[internal.CreateTransfersRequest], seconds: float) -> Round:
    """Sends each batch again and again. What is refused within a batch has failed."""
    latencies: list[float] = []
    done, failed = 0, 0

    async def repeat(stub: PaymentInternalServiceAsyncStub, request: internal.CreateTransfersRequest) -> None:
        nonlocal done, failed
        while time.perf_counter() < begun + seconds:
            sent = time.perf_counter()
            answer = await stub.CreateTransfers(request, timeout=20)
            latencies.append(time.perf_counter() - sent)
            refused = sum(one.reason != "" for one in answer.results)
            done, failed = done + len(answer.results) - refused, failed + refused

    async with rig.channel("payment", CALLER) as channel:
        stub: PaymentInternalServiceAsyncStub = PaymentInternalServiceStub(channel)
        begun = time.perf_counter()
        await asyncio.gather(*(repeat(stub, request) for request in batches))
        took = time.perf_counter() - begun
    return replace(summary(latencies, failed, took), calls=done)


@contextmanager
def tpcb(rig: Rig, tell: Tell) -> Iterator[Callable[[float], Round]]:
    """Makes pgbench's tables in the same server; gives what runs its TPC-B for some seconds."""
    admin = rig.superuser()
    asyncio.run(_execute(admin, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))
    asyncio.run(_execute(admin, f"CREATE DATABASE {DATABASE}"))
    url = urlunsplit(urlsplit(admin)._replace(path=f"/{DATABASE}"))
    try:
        tell("makes the tables of pgbench")
        _pgbench(url, "--initialize", f"--scale={CLIENTS}", "--quiet")
        with TemporaryDirectory(prefix="sampan-pgbench-") as folder:

            def load(seconds: float) -> Round:
                return run_tpcb(url, Path(folder), seconds)

            yield load
    finally:
        asyncio.run(_execute(admin, f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)"))


def run_tpcb(url: str, folder: Path, seconds: float) -> Round:
    """TPC-B as pgbench has it, prepared; latencies from its log."""
    for path in folder.iterdir():
        path.unlink()
    # Its clients connect within that time.
    duration = max(3, round(seconds))
    said = _pgbench(
        url,
        *("--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2", f"--time={duration}"),
        *("--log", f"--log-prefix={folder / 'log'}"),
    )
    rate = next((float(line.split()[2]) for line in said.splitlines() if line.startswith("tps = ")), 0.0)
    if not rate:
        raise StackError("bench", "pgbench ended no transaction", "Is the machine very busy?")
    lines = [line.split() for path in folder.iterdir() for line in path.read_text().splitlines()]
    found = summary([int(line[2]) / 1e6 for line in lines], 0, duration)
    # Its own rate leaves out the time of connecting.
    return replace(found, seconds=found.calls / rate)


def _pgbench(url: str, *arguments: str) -> str:
    program = binaries.postgres_programs() / "pgbench"
    done = subprocess.run(
        [str(program), *arguments], env=_environment(url), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise StackError("bench", "pgbench failed: " + " ".join(done.stderr.splitlines()[-2:]))
    return done.stdout


def _environment(url: str) -> dict[str, str]:
    """Where its server is, said where nobody else sees it."""
    found = urlsplit(url)
    return {
        "PGHOST": found.hostname or "",
        "PGPORT": str(found.port or 5432),
        "PGUSER": found.username or "",
        "PGPASSWORD": found.password or "",
        "PGDATABASE": found.path.removeprefix("/"),
    }


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


def among_millions(rig: Rig, effort: Effort, tell: Tell, unary: Case, echo: Case) -> list[Figure]:
    """What a payment costs among ten million postings, as a multiple of what it costs in an empty ledger."""
    if not rig.private:
        tell("leaves out payment.send_among_millions: this stack is not the benchmark's own")
        return []
    # Both are small differences of a noisy machine: more and shorter rounds than for others.
    effort = replace(effort, rounds=ROUNDS, seconds=1.0)
    tell("measures payments in an empty ledger")
    empty = _cost(rig, effort, tell, unary, echo)
    tell(f"writes {2 * FILLED} postings")
    begun = time.perf_counter()
    asyncio.run(_fill(rig))
    tell(f"wrote them in {time.perf_counter() - begun:.0f} s; measures payments in a full ledger")
    full = _cost(rig, effort, tell, unary, echo)
    return [Figure("payment", "payment.send_among_millions", full / empty, "x of empty", target=1.1)]


def _cost(rig: Rig, effort: Effort, tell: Tell, unary: Case, echo: Case) -> float:
    rounds, _ = interleaved(rig, [unary, echo], effort, tell)
    return median(
        limit.rate / ours.rate for ours, limit in zip(rounds[unary.name], rounds[echo.name], strict=True)
    )


async def _fill(rig: Rig) -> None:
    """Transfers between ten thousand wallets, by the ledger's own triggers, many at once.

    Each writer has a stripe of our accounts and wallets of its own: none waits for another.
    """
    url = rig.database("payment")
    await _execute(url, _FILL_WALLETS)
    await asyncio.gather(*(_write(url, writer) for writer in range(WRITERS)))
    # What the server else does by itself within the next minutes.
    for table in ("transfers", "postings", "accounts"):
        await _execute(url, f"VACUUM (ANALYZE) {table}")
    await _execute(rig.superuser(), "CHECKPOINT")


async def _write(url: str, writer: int) -> None:
    connection = await asyncpg.connect(url, server_settings={"work_mem": "64MB"})
    try:
        for _ in range(FILLED // WRITERS // _FILL_STEP):
            await connection.execute(_FILL_TRANSFERS, writer, _FILL_STEP, timeout=600)
    finally:
        await connection.close()


_FUND = """
INSERT INTO transfers (id, transaction_id, kind, debit_account, debit_seq, credit_account, credit_seq, amount,
    currency, caller, created_at)
SELECT $2, $2, 'topup', own.id, own.seq + 1, wallet.id, wallet.seq + 1, $3, wallet.currency, 'bench', now()
FROM accounts wallet JOIN accounts own
    ON own.kind = 'clearing' AND own.name = 'manual' AND own.stripe = 0 AND own.currency = wallet.currency
WHERE wallet.id = $1
"""
_FILL_STEP = 50_000
_FILL_WALLETS = """
INSERT INTO accounts (id, kind, owner, currency, may_go_negative)
SELECT gen_random_uuid(), 'wallet', gen_random_uuid(), 'USD', false FROM generate_series(1, 10000)
"""
# From what nobody owes us to each wallet of a writer in turn: as many legs as other transfers, and no wallet
# runs dry. Ids in the order of time, as ours are.
_FILL_TRANSFERS = f"""
WITH wallets AS (
    SELECT id, seq, (place - 1) / {WRITERS} AS place FROM (
        SELECT id, seq, row_number() OVER (ORDER BY id) AS place FROM accounts
        WHERE kind = 'wallet' AND currency = 'USD'
    ) a WHERE place % {WRITERS} = $1::int
), own AS (
    SELECT id, seq FROM accounts
    WHERE kind = 'clearing' AND name = 'manual' AND currency = 'USD' AND stripe = $1::int
)
INSERT INTO transfers (id, transaction_id, kind, debit_account, debit_seq, credit_account, credit_seq, amount,
    currency, caller, created_at)
SELECT made.id, made.id, 'topup', own.id, own.seq + n, w.id, w.seq + (n - 1) / {10_000 // WRITERS} + 1, 1,
    'USD', 'bench', now()
FROM generate_series(1, $2::int) AS n
JOIN wallets w ON w.place = (n - 1) % {10_000 // WRITERS} CROSS JOIN own
CROSS JOIN LATERAL (SELECT uuidv7() AS id WHERE n > 0) AS made
"""  # noqa: S608 - made of constants
