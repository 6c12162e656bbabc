"""Accounts, the ledger, and what writes into it."""

from __future__ import annotations

from alembic import op

from services.mesh import idempotency, outbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Statements rather than calls: what counts here is where rows lie, which indexes there are and what is refused.
TABLES = (
    # A transfer changes the row in place: no index on what it changes, and room on the page.
    """
    CREATE TABLE accounts (
        id uuid PRIMARY KEY,
        kind text NOT NULL CHECK (kind IN ('wallet', 'clearing', 'fees', 'review')),
        owner uuid,
        name text NOT NULL DEFAULT '',
        stripe smallint NOT NULL DEFAULT 0,
        currency text NOT NULL,
        may_go_negative boolean NOT NULL,
        balance bigint NOT NULL DEFAULT 0,
        held bigint NOT NULL DEFAULT 0,
        seq bigint NOT NULL DEFAULT 0,
        kyc_tier smallint NOT NULL DEFAULT 0 CHECK (kyc_tier BETWEEN 0 AND 3),
        suspended boolean NOT NULL DEFAULT false,
        time_zone text NOT NULL DEFAULT 'UTC',
        day date NOT NULL DEFAULT '2000-01-01',
        spent_today bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT accounts_owner_check CHECK ((kind = 'wallet') = (owner IS NOT NULL)),
        CONSTRAINT accounts_wallet_check CHECK (kind <> 'wallet' OR NOT may_go_negative),
        CONSTRAINT accounts_funds_check CHECK (may_go_negative OR balance - held >= 0),
        CONSTRAINT accounts_held_check CHECK (held >= 0),
        CONSTRAINT accounts_owner_key UNIQUE (owner, currency)
    ) WITH (fillfactor = 50)
    """,
    "CREATE UNIQUE INDEX accounts_own_key ON accounts (kind, name, currency, stripe) WHERE owner IS NULL",
    """
    CREATE TABLE standings (
        user_id uuid PRIMARY KEY,
        kyc_tier smallint NOT NULL CHECK (kyc_tier BETWEEN 0 AND 3),
        suspended boolean NOT NULL,
        version bigint NOT NULL
    )
    """,
    "CREATE TABLE person_keys (user_id uuid PRIMARY KEY, wrapped bytea NOT NULL)",
)

# Of our own, each in stripes, so that one hot row does not make everybody wait: what a rail owes us, what
# fees earned, and what came in but cannot be credited.
OWN_ACCOUNTS = """
INSERT INTO accounts (id, kind, name, stripe, currency, may_go_negative)
SELECT gen_random_uuid(), kind, name, stripe, currency, true
FROM (VALUES
    ('clearing', 'promptpay', 'THB'), ('clearing', 'paynow', 'SGD'), ('clearing', 'qris', 'IDR'),
    ('clearing', 'duitnow', 'MYR'), ('clearing', 'qrph', 'PHP'), ('clearing', 'vietqr', 'VND'),
    ('clearing', 'manual', 'THB'), ('clearing', 'manual', 'SGD'), ('clearing', 'manual', 'IDR'),
    ('clearing', 'manual', 'MYR'), ('clearing', 'manual', 'PHP'), ('clearing', 'manual', 'VND'),
    ('clearing', 'manual', 'USD'),
    ('fees', '', 'THB'), ('fees', '', 'SGD'), ('fees', '', 'IDR'), ('fees', '', 'MYR'), ('fees', '', 'PHP'),
    ('fees', '', 'VND'), ('fees', '', 'USD'),
    ('review', '', 'THB'), ('review', '', 'SGD'), ('review', '', 'IDR'), ('review', '', 'MYR'),
    ('review', '', 'PHP'), ('review', '', 'VND'), ('review', '', 'USD')
) AS own (kind, name, currency), generate_series(0, 7) AS stripe
"""

RIGHTS = (
    "GRANT SELECT ON accounts TO payment",
    """
    GRANT INSERT (id, kind, owner, currency, may_go_negative, kyc_tier, suspended, time_zone)
    ON accounts TO payment
    """,
    "GRANT UPDATE (kyc_tier, suspended) ON accounts TO payment",
    "GRANT SELECT, INSERT, UPDATE ON standings TO payment",
    "GRANT SELECT, INSERT, DELETE ON person_keys TO payment",
)


def upgrade() -> None:
    for statement in (*TABLES, OWN_ACCOUNTS, *RIGHTS):
        op.execute(statement)
    idempotency.create("payment")
    # What was answered is known for ever.
    op.execute("REVOKE DELETE ON idempotency FROM payment")
    outbox.create("payment")


def downgrade() -> None:
    outbox.drop()
    idempotency.drop()
    for table in ("person_keys", "standings", "accounts"):
        op.drop_table(table)
