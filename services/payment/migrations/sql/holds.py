"""Holds: money that is reserved. What they hold and what was captured follows from rows, by triggers."""

from __future__ import annotations

TABLES = (
    # A void of a hold that is not there yet leaves a row without an account: a late hold cannot come back.
    """
    CREATE TABLE holds (
        id uuid PRIMARY KEY,
        account_id uuid,
        payee_account uuid,
        amount bigint NOT NULL CHECK (amount >= 0),
        captured bigint NOT NULL DEFAULT 0,
        currency text NOT NULL DEFAULT '',
        status text NOT NULL CHECK (status IN ('pending', 'captured', 'voided', 'expired')),
        caller text NOT NULL,
        expires_at timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        closed_at timestamptz,
        CONSTRAINT holds_captured_check CHECK (captured BETWEEN 0 AND amount),
        CONSTRAINT holds_legs_check CHECK (account_id <> payee_account),
        CONSTRAINT holds_tombstone_check CHECK (
            (account_id IS NOT NULL AND payee_account IS NOT NULL AND amount > 0)
            OR (account_id IS NULL AND payee_account IS NULL AND amount = 0 AND status = 'voided')
        )
    )
    """,
    "CREATE INDEX holds_account_idx ON holds (account_id, id)",
    "CREATE INDEX holds_payee_idx ON holds (payee_account, id)",
    "CREATE INDEX holds_expires_idx ON holds (expires_at) WHERE status = 'pending'",
)
NAMES = ("holds",)

# What is not captured yet is held, and counts as spent on the day of the hold; what is let go of on that same
# day may be spent again.
_MOVE_HELD = """
UPDATE accounts a SET held = a.held + h.change,
    spent_today = CASE WHEN h.spent > 0 AND a.day <> h.day THEN h.spent
        WHEN a.day = h.day THEN greatest(0, a.spent_today + h.spent) ELSE a.spent_today END,
    day = CASE WHEN h.spent > 0 THEN h.day ELSE a.day END
FROM (
    SELECT account_id, sum(change)::bigint AS change, sum(spent)::bigint AS spent, max(day) AS day
    FROM ({rows}) r GROUP BY account_id
) h
WHERE a.id = h.account_id;
"""
_CREATED = """
    SELECT n.account_id, n.amount AS change, n.amount AS spent,
        (n.created_at AT TIME ZONE w.time_zone)::date AS day
    FROM fresh n JOIN accounts w ON w.id = n.account_id WHERE n.status = 'pending'
"""
_CHANGED = """
    SELECT n.account_id,
        CASE WHEN n.status = 'pending' THEN n.amount - n.captured ELSE 0 END - (o.amount - o.captured)
            AS change,
        CASE WHEN n.status = 'pending' THEN 0 ELSE n.captured - n.amount END AS spent,
        (n.created_at AT TIME ZONE w.time_zone)::date AS day
    FROM fresh n JOIN old o ON o.id = n.id JOIN accounts w ON w.id = n.account_id WHERE o.status = 'pending'
"""


def _trigger(name: str, rows: str) -> str:
    return f"""
CREATE FUNCTION {name} RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    {_MOVE_HELD.format(rows=rows)}
    RETURN NULL;
END $$
"""


# A hold begins open and whole, and once it is closed it stays so.
_STEP = """
CREATE FUNCTION hold_step() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.captured <> 0 OR NEW.closed_at IS NOT NULL
            OR (NEW.status <> 'pending' AND NEW.amount <> 0) THEN
            RAISE EXCEPTION 'a hold begins open' USING ERRCODE = '23514', CONSTRAINT = 'holds_step';
        END IF;
    ELSIF OLD.status <> 'pending' OR NEW.captured < OLD.captured
        OR (NEW.id, NEW.account_id, NEW.payee_account, NEW.amount, NEW.currency, NEW.caller, NEW.created_at)
        IS DISTINCT FROM
        (OLD.id, OLD.account_id, OLD.payee_account, OLD.amount, OLD.currency, OLD.caller, OLD.created_at) THEN
        RAISE EXCEPTION 'a hold that is closed stays so' USING ERRCODE = '23514', CONSTRAINT = 'holds_step';
    END IF;
    RETURN NEW;
END $$
"""

FUNCTIONS = {
    "hold_created()": _trigger("hold_created()", _CREATED),
    "hold_changed()": _trigger("hold_changed()", _CHANGED),
    "hold_step()": _STEP,
}

TRIGGERS = (
    "CREATE TRIGGER step BEFORE INSERT OR UPDATE ON holds FOR EACH ROW EXECUTE FUNCTION hold_step()",
    """
    CREATE TRIGGER created AFTER INSERT ON holds REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION hold_created()
    """,
    """
    CREATE TRIGGER changed AFTER UPDATE ON holds REFERENCING OLD TABLE AS old NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION hold_changed()
    """,
    """
    CREATE TRIGGER derived BEFORE UPDATE OF captured ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION only_by_trigger()
    """,
    """
    CREATE TRIGGER never BEFORE DELETE OR TRUNCATE ON holds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)

RIGHTS = (
    "GRANT SELECT ON holds TO payment",
    """
    GRANT INSERT (id, account_id, payee_account, amount, currency, status, caller, expires_at)
    ON holds TO payment
    """,
    "GRANT UPDATE (status, closed_at) ON holds TO payment",
)
