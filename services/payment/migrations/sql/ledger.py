"""Accounts, transfers and postings, and the triggers that keep them true."""

from __future__ import annotations

# Statements rather than calls: what counts is where rows lie, which indexes there are and what is refused.
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
        spent_today bigint NOT NULL DEFAULT 0 CHECK (spent_today >= 0),
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT accounts_owner_check CHECK ((kind = 'wallet') = (owner IS NOT NULL)),
        CONSTRAINT accounts_wallet_check CHECK (kind <> 'wallet' OR NOT may_go_negative),
        CONSTRAINT accounts_funds_check CHECK (may_go_negative OR balance - held >= 0),
        CONSTRAINT accounts_held_check CHECK (held >= 0),
        CONSTRAINT accounts_owner_key UNIQUE (owner, currency)
    ) WITH (fillfactor = 50)
    """,
    "CREATE UNIQUE INDEX accounts_own_key ON accounts (kind, name, currency, stripe) WHERE owner IS NULL",
    # Two legs by construction. What belongs together, such as a payment and its fee, has one transaction_id.
    """
    CREATE TABLE transfers (
        id uuid PRIMARY KEY,
        transaction_id uuid NOT NULL,
        kind text NOT NULL CHECK (kind IN
            ('send', 'fee', 'topup', 'capture', 'refund', 'transfer', 'review')),
        debit_account uuid NOT NULL,
        debit_seq bigint NOT NULL,
        credit_account uuid NOT NULL,
        credit_seq bigint NOT NULL,
        amount bigint NOT NULL CHECK (amount > 0),
        currency text NOT NULL,
        refers_to uuid,
        caller text NOT NULL,
        created_at timestamptz NOT NULL,
        CONSTRAINT transfers_legs_check CHECK (debit_account <> credit_account)
    )
    """,
    "CREATE INDEX transfers_linked_idx ON transfers (transaction_id) WHERE transaction_id <> id",
    "CREATE INDEX transfers_refers_idx ON transfers (refers_to) WHERE refers_to IS NOT NULL",
    """
    CREATE TABLE postings (
        account_id uuid NOT NULL,
        seq bigint NOT NULL,
        transfer_id uuid NOT NULL,
        amount bigint NOT NULL CHECK (amount <> 0),
        balance_after bigint NOT NULL,
        created_at timestamptz NOT NULL,
        CONSTRAINT postings_pkey PRIMARY KEY (account_id, seq)
    )
    """,
    # The request that made a transaction, and what it was answered, for ever. The key is a keyed hash of
    # caller, method and request_id.
    """
    CREATE TABLE requests (
        key uuid PRIMARY KEY,
        request_hash bytea NOT NULL,
        transaction_id uuid NOT NULL,
        balance_after bigint NOT NULL,
        fee bigint NOT NULL,
        created_at timestamptz NOT NULL
    )
    """,
    # Texts of people, sealed with their key: beside the ledger, so that they can be erased and it cannot.
    """
    CREATE TABLE notes (
        transaction_id uuid PRIMARY KEY,
        person_id uuid NOT NULL,
        sealed bytea NOT NULL
    )
    """,
    # What happened to something that is no single transfer, such as a hold or a top-up; append-only.
    """
    CREATE TABLE trail (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        subject_id uuid NOT NULL,
        event text NOT NULL,
        actor text NOT NULL,
        amount bigint,
        transaction_id uuid,
        created_at timestamptz NOT NULL DEFAULT clock_timestamp()
    )
    """,
    "CREATE INDEX trail_subject_idx ON trail (subject_id, id)",
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
NAMES = ("accounts", "transfers", "postings", "requests", "notes", "trail", "standings", "person_keys")

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

# Plans are made once for a connection, perhaps while tables are empty: so they may use nothing but indexes.
PLANS = """
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
"""

# Transfers that were inserted become postings and move balances; nothing else writes either. Who inserts has
# numbered both legs: they must go on from the accounts' numbers without a gap, in the accounts' currency, and
# no account that may not go negative may do so on the way. Its last leg has what an account comes to; one
# that somebody else moved meanwhile has another number, and is not updated.
POST_LEGS = f"""
CREATE OR REPLACE FUNCTION post_legs() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp {PLANS}
AS $$
DECLARE
    v_legs bigint;
    v_captures boolean;
    v_moved bigint;
    v_fits boolean;
    v_overdrawn boolean;
BEGIN
    SELECT 2 * count(*), bool_or(kind = 'capture') INTO v_legs, v_captures FROM fresh;
    IF v_legs = 0 THEN
        RETURN NULL;
    END IF;
    -- What a hold has captured follows from its captures; that lets go of what it held before it is spent.
    IF v_captures THEN
        UPDATE holds h SET captured = h.captured + s.amount,
            status = CASE WHEN h.captured + s.amount = h.amount THEN 'captured' ELSE h.status END,
            closed_at = CASE WHEN h.captured + s.amount = h.amount THEN s.at END
        FROM (
            SELECT refers_to, debit_account, sum(amount)::bigint AS amount, max(created_at) AS at
            FROM fresh WHERE kind = 'capture' GROUP BY 1, 2
        ) s WHERE h.id = s.refers_to AND h.account_id = s.debit_account AND h.status = 'pending';
        GET DIAGNOSTICS v_moved = ROW_COUNT;
        IF v_moved <> (
            SELECT count(DISTINCT (refers_to, debit_account)) FROM fresh WHERE kind = 'capture'
        ) THEN
            RAISE EXCEPTION 'a capture without its hold' USING ERRCODE = '23514', CONSTRAINT = 'ledger_fit';
        END IF;
    END IF;
    WITH numbered AS MATERIALIZED (
        SELECT l.account_id, l.seq, l.id, l.amount, l.created_at, row_number() OVER w AS legs,
            lead(l.seq) OVER w IS NULL AS is_last,
            a.seq + row_number() OVER w = l.seq AND a.currency = l.currency AS fits,
            (a.balance + sum(l.amount) OVER w)::bigint AS after, (sum(l.spent) OVER w)::bigint AS spent,
            a.may_go_negative, a.held
        FROM (
            SELECT debit_account AS account_id, debit_seq AS seq, id, -amount AS amount, currency, created_at,
                CASE WHEN kind = 'send' THEN amount ELSE 0 END AS spent
            FROM fresh
            UNION ALL
            SELECT credit_account, credit_seq, id, amount, currency, created_at, 0 FROM fresh
        ) l JOIN accounts a ON a.id = l.account_id
        WINDOW w AS (PARTITION BY l.account_id ORDER BY l.seq ROWS UNBOUNDED PRECEDING)
    ), posted AS (
        INSERT INTO postings (account_id, seq, transfer_id, amount, balance_after, created_at)
        SELECT account_id, seq, id, amount, after, created_at FROM numbered
    ), moved AS (
        UPDATE accounts a SET balance = n.after, seq = n.seq,
            spent_today = CASE WHEN n.spent = 0 THEN a.spent_today
                WHEN a.day = (n.created_at AT TIME ZONE a.time_zone)::date THEN a.spent_today + n.spent
                ELSE n.spent END,
            day = CASE WHEN n.spent = 0 THEN a.day ELSE (n.created_at AT TIME ZONE a.time_zone)::date END
        FROM numbered n WHERE n.is_last AND a.id = n.account_id AND a.seq + n.legs = n.seq
        RETURNING n.legs
    )
    SELECT (SELECT sum(legs) FROM moved), bool_and(fits), bool_or(NOT may_go_negative AND after < held)
    INTO v_moved, v_fits, v_overdrawn FROM numbered;
    IF NOT v_fits OR v_moved IS DISTINCT FROM v_legs THEN
        RAISE EXCEPTION 'transfers do not fit their accounts'
            USING ERRCODE = '23514', CONSTRAINT = 'ledger_fit';
    END IF;
    IF v_overdrawn THEN
        RAISE EXCEPTION 'transfers overdraw an account'
            USING ERRCODE = '23514', CONSTRAINT = 'accounts_funds_check';
    END IF;
    RETURN NULL;
END $$
"""  # noqa: S608 - made of constants

_REFUSE_CHANGE = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or removed', TG_TABLE_NAME
        USING ERRCODE = '42501', CONSTRAINT = 'ledger_append_only';
END $$
"""

# For what only triggers may write. This one is at depth 1 when a statement of somebody's own fires it.
_ONLY_BY_TRIGGER = """
CREATE FUNCTION only_by_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION '% of % follows from transfers and holds alone', TG_OP, TG_TABLE_NAME
            USING ERRCODE = '42501', CONSTRAINT = 'ledger_derived';
    END IF;
    RETURN NULL;
END $$
"""

_BEGIN_EMPTY = """
CREATE FUNCTION begin_empty() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.balance <> 0 OR NEW.held <> 0 OR NEW.seq <> 0 OR NEW.spent_today <> 0 THEN
        RAISE EXCEPTION 'an account begins empty' USING ERRCODE = '23514', CONSTRAINT = 'ledger_begin_empty';
    END IF;
    RETURN NEW;
END $$
"""

FUNCTIONS = {
    "post_legs()": POST_LEGS,
    "refuse_change()": _REFUSE_CHANGE,
    "only_by_trigger()": _ONLY_BY_TRIGGER,
    "begin_empty()": _BEGIN_EMPTY,
}

_APPEND_ONLY = ("transfers", "postings", "trail")
TRIGGERS = (
    """
    CREATE TRIGGER post_legs AFTER INSERT ON transfers REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION post_legs()
    """,
    "CREATE TRIGGER derived BEFORE INSERT ON postings FOR EACH STATEMENT EXECUTE FUNCTION only_by_trigger()",
    """
    CREATE TRIGGER derived BEFORE UPDATE OF id, kind, owner, name, stripe, currency, may_go_negative, balance,
        held, seq, day, spent_today, created_at
    ON accounts FOR EACH STATEMENT EXECUTE FUNCTION only_by_trigger()
    """,
    "CREATE TRIGGER begin_empty BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION begin_empty()",
    """
    CREATE TRIGGER never BEFORE DELETE OR TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    *(
        f"""
        CREATE TRIGGER never BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
        """
        for table in _APPEND_ONLY
    ),
)

RIGHTS = (
    "GRANT SELECT ON accounts, postings TO payment",
    """
    GRANT INSERT (id, kind, owner, currency, may_go_negative, kyc_tier, suspended, time_zone)
    ON accounts TO payment
    """,
    "GRANT UPDATE (kyc_tier, suspended) ON accounts TO payment",
    "GRANT SELECT, INSERT ON transfers, requests, trail TO payment",
    "GRANT SELECT, INSERT, DELETE ON notes, person_keys TO payment",
    "GRANT SELECT, INSERT, UPDATE ON standings TO payment",
)
