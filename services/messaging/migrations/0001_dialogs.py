"""Dialogs, their members, the log of their events, and what writes messages into it."""

from __future__ import annotations

from alembic import op

from services.mesh import idempotency
from services.messaging.migrations.sql.posting import POST_MESSAGES

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Statements rather than calls: what counts here is where rows lie and which indexes there are.
TABLES = (
    # A send changes the row in place: no index on what it changes, and room on the page.
    """
    CREATE TABLE dialogs (
        id uuid PRIMARY KEY,
        kind smallint NOT NULL CHECK (kind IN (1, 2, 3)),
        title text NOT NULL DEFAULT '',
        description text NOT NULL DEFAULT '',
        workspace_id uuid,
        is_private boolean NOT NULL DEFAULT false,
        direct_key bytea CONSTRAINT dialogs_direct_key UNIQUE,
        created_by uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        seq bigint NOT NULL DEFAULT 0,
        message_no bigint NOT NULL DEFAULT 0,
        first_seq bigint NOT NULL DEFAULT 1,
        dropped_no bigint NOT NULL DEFAULT 0,
        member_count integer NOT NULL DEFAULT 0,
        active_at timestamptz NOT NULL DEFAULT now(),
        closed_at timestamptz,
        CHECK ((kind = 1) = (direct_key IS NOT NULL))
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE members (
        dialog_id uuid NOT NULL,
        user_id uuid NOT NULL,
        role smallint NOT NULL CHECK (role IN (1, 2, 3)),
        joined_seq bigint NOT NULL,
        joined_at timestamptz NOT NULL DEFAULT now(),
        left_seq bigint,
        read_seq bigint NOT NULL DEFAULT 0,
        read_no bigint NOT NULL DEFAULT 0,
        muted boolean NOT NULL DEFAULT false,
        inviter uuid NOT NULL,
        CONSTRAINT members_pkey PRIMARY KEY (dialog_id, user_id)
    ) WITH (fillfactor = 70)
    """,
    "CREATE INDEX members_user_idx ON members (user_id) WHERE left_seq IS NULL",
    """
    CREATE INDEX members_rank_idx ON members (dialog_id, role DESC, joined_at, user_id) WHERE left_seq IS NULL
    """,
    """
    CREATE TABLE messages (
        dialog_id uuid NOT NULL,
        seq bigint NOT NULL,
        message_no bigint NOT NULL,
        sender_id uuid NOT NULL,
        client_message_id text NOT NULL,
        type text NOT NULL,
        text text NOT NULL,
        attributes jsonb,
        reply_to bigint,
        thread_seq bigint,
        reply_count integer NOT NULL DEFAULT 0,
        file_ids uuid[],
        mentions uuid[],
        request_hash bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        edited_at timestamptz,
        deleted_at timestamptz,
        CONSTRAINT messages_pkey PRIMARY KEY (dialog_id, seq),
        CONSTRAINT messages_client_key UNIQUE (dialog_id, sender_id, client_message_id)
    ) WITH (fillfactor = 95)
    """,
    "CREATE INDEX messages_thread_idx ON messages (dialog_id, thread_seq, seq) WHERE thread_seq IS NOT NULL",
    "CREATE INDEX messages_deleted_idx ON messages (dialog_id, message_no) WHERE deleted_at IS NOT NULL",
    "CREATE INDEX messages_notice_idx ON messages (dialog_id, sender_id, message_no) WHERE type <> 'text'",
    """
    CREATE TABLE changes (
        dialog_id uuid NOT NULL,
        seq bigint NOT NULL,
        actor_id uuid NOT NULL,
        kind smallint NOT NULL,
        message_seq bigint,
        payload bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT changes_pkey PRIMARY KEY (dialog_id, seq)
    )
    """,
    """
    CREATE TABLE edits (
        dialog_id uuid NOT NULL,
        seq bigint NOT NULL,
        edit_no integer NOT NULL,
        text text NOT NULL,
        replaced_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT edits_pkey PRIMARY KEY (dialog_id, seq, edit_no)
    )
    """,
    """
    CREATE TABLE reactions (
        dialog_id uuid NOT NULL,
        seq bigint NOT NULL,
        user_id uuid NOT NULL,
        emoji text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT reactions_pkey PRIMARY KEY (dialog_id, seq, emoji, user_id)
    )
    """,
    """
    CREATE TABLE mentions (
        user_id uuid NOT NULL,
        dialog_id uuid NOT NULL,
        seq bigint NOT NULL,
        message_no bigint NOT NULL,
        CONSTRAINT mentions_pkey PRIMARY KEY (user_id, dialog_id, seq)
    )
    """,
    "CREATE INDEX mentions_message_idx ON mentions (dialog_id, seq)",
    """
    CREATE TABLE blocks (
        blocker uuid NOT NULL,
        blocked uuid NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT blocks_pkey PRIMARY KEY (blocker, blocked),
        CHECK (blocker <> blocked)
    )
    """,
    "CREATE INDEX blocks_blocked_idx ON blocks (blocked)",
    """
    CREATE TABLE reports (
        id uuid PRIMARY KEY,
        reporter_id uuid NOT NULL,
        dialog_id uuid NOT NULL,
        seq bigint NOT NULL,
        sender_id uuid NOT NULL,
        category text NOT NULL,
        comment text NOT NULL DEFAULT '',
        text text NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT reports_message_key UNIQUE (reporter_id, dialog_id, seq)
    )
    """,
    """
    CREATE TABLE devices (
        user_id uuid NOT NULL,
        device_id text NOT NULL,
        resume bytea NOT NULL,
        stamp bigint NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT devices_pkey PRIMARY KEY (user_id, device_id)
    ) WITH (fillfactor = 70)
    """,
    """
    CREATE TABLE spent_ids (
        dialog_id uuid NOT NULL,
        sender_id uuid NOT NULL,
        client_message_id text NOT NULL,
        seq bigint NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        dropped_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT spent_ids_pkey PRIMARY KEY (dialog_id, sender_id, client_message_id)
    )
    """,
)

# What the running role may do. The log is append-only for it: what is deleted goes by the functions below.
RIGHTS = (
    "GRANT SELECT, INSERT ON dialogs, members, messages, changes, edits, reports TO messaging",
    "GRANT SELECT, INSERT, DELETE ON reactions, mentions, blocks TO messaging",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON devices TO messaging",
    "GRANT SELECT ON spent_ids TO messaging",
    """
    GRANT UPDATE (title, description, is_private, seq, message_no, member_count, active_at, closed_at)
    ON dialogs TO messaging
    """,
    """
    GRANT UPDATE (role, joined_seq, joined_at, left_seq, read_seq, read_no, muted, inviter)
    ON members TO messaging
    """,
    """
    GRANT UPDATE (text, attributes, file_ids, mentions, reply_count, edited_at, deleted_at)
    ON messages TO messaging
    """,
)

# Takes the history, reactions and mentions of a message that was deleted.
ERASE_MESSAGE = """
CREATE FUNCTION erase_message(p_dialog uuid, p_seq bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    IF NOT EXISTS (
        SELECT FROM messages WHERE dialog_id = p_dialog AND seq = p_seq AND deleted_at IS NOT NULL
    ) THEN
        RAISE EXCEPTION 'the message is not deleted';
    END IF;
    DELETE FROM edits WHERE dialog_id = p_dialog AND seq = p_seq;
    DELETE FROM reactions WHERE dialog_id = p_dialog AND seq = p_seq;
    DELETE FROM mentions WHERE dialog_id = p_dialog AND seq = p_seq;
END $$
"""

# Drops events that are older than some days, in some dialogs that come after one by id; of each at most so
# many, and never its newest. Stamps of a dialog never go back, so what is old comes first. A dialog in which
# somebody is just writing is left for the next time.
DROP_EXPIRED = """
CREATE FUNCTION drop_expired(p_after uuid, p_days integer, p_dialogs integer, p_events integer)
RETURNS TABLE (last_id uuid, looked integer, dropped bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    v_until CONSTANT timestamptz := now() - make_interval(days => greatest(p_days, 1));
    v_id uuid;
    v_first bigint;
    v_newest bigint;
    v_floor bigint;
    v_no bigint;
BEGIN
    last_id := p_after;
    looked := 0;
    dropped := 0;
    FOR v_id IN SELECT d.id FROM dialogs d WHERE d.id > p_after ORDER BY d.id LIMIT p_dialogs LOOP
        last_id := v_id;
        looked := looked + 1;
        SELECT d.first_seq, d.seq INTO v_first, v_newest FROM dialogs d
        WHERE d.id = v_id AND d.first_seq < d.seq FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        SELECT max(old.seq) INTO v_floor FROM (
            (SELECT m.seq, m.created_at FROM messages m
            WHERE m.dialog_id = v_id AND m.seq >= v_first AND m.seq < v_newest ORDER BY m.seq LIMIT p_events)
            UNION ALL
            (SELECT c.seq, c.created_at FROM changes c
            WHERE c.dialog_id = v_id AND c.seq >= v_first AND c.seq < v_newest ORDER BY c.seq LIMIT p_events)
            ORDER BY 1 LIMIT p_events
        ) AS old WHERE old.created_at < v_until;
        CONTINUE WHEN v_floor IS NULL;
        INSERT INTO spent_ids (dialog_id, sender_id, client_message_id, seq, created_at)
        SELECT m.dialog_id, m.sender_id, m.client_message_id, m.seq, m.created_at FROM messages m
        WHERE m.dialog_id = v_id AND m.seq <= v_floor;
        DELETE FROM edits e WHERE e.dialog_id = v_id AND e.seq <= v_floor;
        DELETE FROM reactions r WHERE r.dialog_id = v_id AND r.seq <= v_floor;
        DELETE FROM mentions t WHERE t.dialog_id = v_id AND t.seq <= v_floor;
        WITH gone AS (
            DELETE FROM messages m WHERE m.dialog_id = v_id AND m.seq <= v_floor RETURNING m.message_no
        ) SELECT max(gone.message_no) INTO v_no FROM gone;
        DELETE FROM changes c WHERE c.dialog_id = v_id AND c.seq <= v_floor;
        UPDATE dialogs d SET first_seq = v_floor + 1, dropped_no = greatest(d.dropped_no, coalesce(v_no, 0))
        WHERE d.id = v_id;
        dropped := dropped + v_floor - v_first + 1;
    END LOOP;
    RETURN NEXT;
END $$
"""

FUNCTIONS = {"post_messages": POST_MESSAGES, "erase_message": ERASE_MESSAGE, "drop_expired": DROP_EXPIRED}


def upgrade() -> None:
    for statement in (*TABLES, *RIGHTS):
        op.execute(statement)
    for name, function in FUNCTIONS.items():
        op.execute(function)
        op.execute(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {name} TO messaging")
    idempotency.create("messaging")


def downgrade() -> None:
    idempotency.drop()
    for name in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {name}")
    names = (
        "spent_ids, devices, reports, blocks, mentions, reactions, edits, changes, messages, members, dialogs"
    )
    for table in names.split(", "):
        op.drop_table(table)
