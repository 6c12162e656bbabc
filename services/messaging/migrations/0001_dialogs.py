"""Dialogs, their members, the log of their events, and what writes messages into it."""

from __future__ import annotations

from alembic import op

from services.mesh import idempotency

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

# Writes a batch of messages in one round trip. Each statement of it sees what was committed before it began,
# so what is checked after the locks were had is true until the commit.
#
# Status: 0 written, 1 there already, 2 its id was used for another message, 3 there but dropped by age, 4 no
# such dialog for this sender, 5 blocked, 6 what it answers is not there. For 0, 1 and 3 `seq` is that of the
# message.
#
# Its plan is made once for a connection, perhaps while tables are empty: so it may use nothing but indexes.
# Of an empty table no index looks better than another: what is answered is looked up only where there is
# something (`OFFSET 0` keeps that condition in front), since the wrong index walks the whole dialog.
POST_MESSAGES = """
CREATE FUNCTION post_messages(
    p_dialogs uuid[], p_senders uuid[], p_keys text[], p_types text[], p_texts text[], p_attributes text[],
    p_replies bigint[], p_threads bigint[], p_files text[], p_mentions text[], p_hashes bytea[]
) RETURNS TABLE (ord bigint, status integer, seq bigint, message_no bigint, stamp bigint, thread_seq bigint,
    mentions uuid[])
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
BEGIN
    PERFORM FROM dialogs WHERE id = ANY (p_dialogs) ORDER BY id FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT * FROM unnest(p_dialogs, p_senders, p_keys, p_types, p_texts, p_attributes, p_replies,
            p_threads, p_files, p_mentions, p_hashes) WITH ORDINALITY
        AS g (dialog_id, sender_id, key, type, body, attributes, reply_to, thread, files, mentions, hash, ord)
    ), checked AS MATERIALIZED (
        SELECT g.*, d.seq AS last_seq, d.message_no AS last_no, greatest(d.active_at, v_now) AS at,
            coalesce(known.seq, spent.seq) AS known_seq, coalesce(root.thread_seq, root.seq) AS root,
            CASE
                WHEN known.request_hash = g.hash THEN 1
                WHEN known.seq IS NOT NULL THEN 2
                WHEN spent.seq IS NOT NULL THEN 3
                WHEN m.user_id IS NULL OR d.closed_at IS NOT NULL THEN 4
                WHEN d.kind = 1 AND g.type = 'text' AND EXISTS (
                    SELECT FROM members o JOIN blocks b
                    ON (b.blocker = o.user_id AND b.blocked = g.sender_id)
                        OR (b.blocker = g.sender_id AND b.blocked = o.user_id)
                    WHERE o.dialog_id = g.dialog_id
                ) THEN 5
                WHEN g.reply_to IS NOT NULL AND reply.seq IS NULL THEN 6
                WHEN g.thread IS NOT NULL AND root.seq IS NULL THEN 6
                ELSE 0
            END AS status
        FROM given g
        LEFT JOIN dialogs d ON d.id = g.dialog_id
        LEFT JOIN messages known ON known.dialog_id = g.dialog_id AND known.sender_id = g.sender_id
            AND known.client_message_id = g.key
        LEFT JOIN spent_ids spent ON d.first_seq > 1 AND spent.dialog_id = g.dialog_id
            AND spent.sender_id = g.sender_id AND spent.client_message_id = g.key
        LEFT JOIN members m ON m.dialog_id = g.dialog_id AND m.user_id = g.sender_id AND m.left_seq IS NULL
        LEFT JOIN LATERAL (
            SELECT r.seq FROM messages r WHERE g.reply_to IS NOT NULL
                AND r.dialog_id = g.dialog_id AND r.seq = g.reply_to AND r.seq >= m.joined_seq OFFSET 0
        ) reply ON true
        LEFT JOIN LATERAL (
            SELECT r.seq, r.thread_seq FROM messages r WHERE g.thread IS NOT NULL
                AND r.dialog_id = g.dialog_id AND r.seq = g.thread AND r.seq >= m.joined_seq OFFSET 0
        ) root ON true
    ), numbered AS MATERIALIZED (
        SELECT c.*, c.last_seq + row_number() OVER of_dialog AS seq,
            c.last_no + row_number() OVER of_dialog AS no,
            CASE WHEN c.mentions IS NOT NULL THEN (
                SELECT array_agg(u.id ORDER BY u.place)
                FROM unnest(c.mentions::uuid[]) WITH ORDINALITY AS u (id, place)
                JOIN members x ON x.dialog_id = c.dialog_id AND x.user_id = u.id AND x.left_seq IS NULL
                WHERE u.id <> c.sender_id
            ) END AS called
        FROM checked c WHERE c.status = 0 WINDOW of_dialog AS (PARTITION BY c.dialog_id ORDER BY c.ord)
    ), written AS (
        INSERT INTO messages (dialog_id, seq, message_no, sender_id, client_message_id, type, text,
            attributes, reply_to, thread_seq, file_ids, mentions, request_hash, created_at)
        SELECT n.dialog_id, n.seq, n.no, n.sender_id, n.key, n.type, n.body,
            n.attributes::jsonb, n.reply_to, n.root, n.files::uuid[], n.called, n.hash, n.at
        FROM numbered n
    ), moved AS (
        UPDATE dialogs d SET seq = n.seq, message_no = n.no, active_at = n.at
        FROM (SELECT dialog_id, max(seq) AS seq, max(no) AS no, max(at) AS at FROM numbered GROUP BY 1) n
        WHERE d.id = n.dialog_id
    ), marked AS (
        UPDATE members m SET read_seq = n.seq, read_no = n.no
        FROM (
            SELECT dialog_id, sender_id, max(seq) AS seq, max(no) AS no FROM numbered
            WHERE type = 'text' GROUP BY 1, 2
        ) n
        WHERE m.dialog_id = n.dialog_id AND m.user_id = n.sender_id
    ), called AS (
        INSERT INTO mentions (user_id, dialog_id, seq, message_no)
        SELECT u.id, n.dialog_id, n.seq, n.no FROM numbered n CROSS JOIN LATERAL unnest(n.called) AS u (id)
        WHERE n.called IS NOT NULL
    ), counted AS (
        UPDATE messages m SET reply_count = m.reply_count + n.replies
        FROM (
            SELECT dialog_id, root, count(*) AS replies FROM numbered WHERE root IS NOT NULL GROUP BY 1, 2
        ) n
        WHERE m.dialog_id = n.dialog_id AND m.seq = n.root
    )
    SELECT c.ord, c.status, coalesce(n.seq, c.known_seq), n.no,
        (extract(epoch FROM n.at) * 1000000)::bigint, n.root, n.called
    FROM checked c LEFT JOIN numbered n ON n.ord = c.ord ORDER BY c.ord;
END $$
"""

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
