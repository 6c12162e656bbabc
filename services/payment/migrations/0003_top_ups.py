"""Top-ups, and the money that came for them."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE top_ups (
        id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        wallet_id uuid NOT NULL,
        provider text NOT NULL,
        method text NOT NULL,
        amount bigint NOT NULL CONSTRAINT top_ups_amount_check CHECK (amount > 0),
        currency text NOT NULL,
        reference text NOT NULL,
        qr_payload text NOT NULL,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        status text NOT NULL DEFAULT 'pending' CONSTRAINT top_ups_status_check
            CHECK (status IN ('pending', 'processing', 'completed', 'review', 'expired', 'returned')),
        payment_id text NOT NULL DEFAULT '',
        processing_since timestamptz,
        settled_at timestamptz,
        paid_amount bigint NOT NULL DEFAULT 0,
        review_reason text NOT NULL DEFAULT '',
        look_at timestamptz NOT NULL,
        CONSTRAINT top_ups_settled_check CHECK ((settled_at IS NULL) = (status IN ('pending', 'processing'))),
        CONSTRAINT top_ups_review_check CHECK ((status = 'review') = (review_reason <> ''))
    )
    """,
    "CREATE INDEX top_ups_user_idx ON top_ups (user_id, id)",
    "CREATE INDEX top_ups_due_idx ON top_ups (look_at) WHERE status IN ('pending', 'processing')",
    """
    CREATE TABLE provider_payments (
        provider text NOT NULL,
        payment_id text NOT NULL,
        top_up_id uuid,
        method text NOT NULL,
        reference text NOT NULL,
        amount bigint NOT NULL CONSTRAINT provider_payments_amount_check CHECK (amount > 0),
        currency text NOT NULL,
        paid_at timestamptz NOT NULL,
        received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        held_because text NOT NULL DEFAULT '',
        transfer_id uuid NOT NULL,
        CONSTRAINT provider_payments_pkey PRIMARY KEY (provider, payment_id)
    )
    """,
    "CREATE INDEX provider_payments_held_idx ON provider_payments (received_at) WHERE held_because <> ''",
    """
    CREATE TABLE resolutions (
        provider text NOT NULL,
        payment_id text NOT NULL,
        decision text NOT NULL,
        wallet_id uuid,
        transfer_id uuid NOT NULL,
        resolved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        CONSTRAINT resolutions_pkey PRIMARY KEY (provider, payment_id),
        CONSTRAINT resolutions_decision_check CHECK ((decision = 'credit') = (wallet_id IS NOT NULL))
    )
    """,
    # What was asked for stays; only how far it has come changes.
    "GRANT SELECT, INSERT ON top_ups TO payment",
    """
    GRANT UPDATE (status, payment_id, processing_since, settled_at, paid_amount, review_reason, look_at)
    ON top_ups TO payment
    """,
    # What happened is only added to.
    "GRANT SELECT, INSERT ON provider_payments, resolutions TO payment",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    for table in ("resolutions", "provider_payments", "top_ups"):
        op.drop_table(table)
