"""The functions that write messages, as they now are."""

from __future__ import annotations

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
CREATE OR REPLACE FUNCTION post_messages(
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

# A batch in one round trip, like post_messages and with the same answers, at a tenth of its cost: that no
# message is there yet is not looked up but said by the unique index, and only what a batch has is asked for
# (answers, threads, mentions). Whoever calls it has counted: `p_places` is the number of an entry within its
# dialog, `p_lasts` its last entry, `p_marks` the last text of a sender in a dialog.
#
# Of an empty table no index looks better than another, and the wrong one walks the whole dialog: what is
# answered is looked up only where there is something (`OFFSET 0` keeps that condition in front), and the
# condition of `members_rank_idx` is said in other words, so that members are found by their key. Who blocks
# whom in a dialog is looked up only when one of the senders blocks or is blocked at all.
#
# When an entry cannot be written, nothing is, and post_messages says of each what there is to say. The lock
# is taken within the block that may be rolled back: a row that is locked outside of it and changed inside
# would need a multixact.
WRITE_MESSAGES = """
CREATE OR REPLACE FUNCTION write_messages(
    p_dialogs uuid[], p_senders uuid[], p_keys text[], p_types text[], p_texts text[], p_attributes text[],
    p_replies bigint[], p_threads bigint[], p_files text[], p_mentions text[], p_hashes bytea[],
    p_places integer[], p_lasts boolean[], p_marks boolean[]
) RETURNS TABLE (ord bigint, status integer, seq bigint, message_no bigint, stamp bigint, thread_seq bigint,
    mentions uuid[])
LANGUAGE plpgsql VOLATILE
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_blocks boolean;
    v_found boolean;
    v_seqs bigint[];
    v_numbers bigint[];
    v_stamps bigint[];
    v_roots bigint[];
    v_called text[];
BEGIN
    PERFORM FROM dialogs WHERE id = ANY (p_dialogs) ORDER BY id FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    v_blocks := EXISTS (SELECT FROM blocks WHERE blocker = ANY (p_senders))
        OR EXISTS (SELECT FROM blocks WHERE blocked = ANY (p_senders));
    IF p_replies IS NOT NULL OR p_threads IS NOT NULL THEN
        SELECT array_agg(coalesce(root.thread_seq, root.seq) ORDER BY g.ord),
            bool_and((g.reply_to IS NULL OR reply.seq IS NOT NULL)
                AND (g.thread IS NULL OR root.seq IS NOT NULL))
        INTO v_roots, v_found
        FROM unnest(p_dialogs, p_senders, p_replies, p_threads) WITH ORDINALITY
            AS g (dialog_id, sender_id, reply_to, thread, ord)
        LEFT JOIN members m ON m.dialog_id = g.dialog_id AND m.user_id = g.sender_id
        LEFT JOIN LATERAL (
            SELECT r.seq FROM messages r WHERE g.reply_to IS NOT NULL
                AND r.dialog_id = g.dialog_id AND r.seq = g.reply_to AND r.seq >= m.joined_seq OFFSET 0
        ) AS reply ON true
        LEFT JOIN LATERAL (
            SELECT r.seq, r.thread_seq FROM messages r WHERE g.thread IS NOT NULL
                AND r.dialog_id = g.dialog_id AND r.seq = g.thread AND r.seq >= m.joined_seq OFFSET 0
        ) AS root ON true;
        IF NOT v_found THEN
            RAISE EXCEPTION USING ERRCODE = 'SP001';
        END IF;
    END IF;
    IF p_mentions IS NOT NULL THEN
        SELECT array_agg(g.called ORDER BY g.ord) INTO v_called FROM (
            SELECT g.ord, CASE WHEN g.mentions IS NOT NULL THEN (
                SELECT array_agg(u.id ORDER BY u.place)::text
                FROM unnest(g.mentions::uuid[]) WITH ORDINALITY AS u (id, place)
                JOIN members x ON x.dialog_id = g.dialog_id AND x.user_id = u.id AND x.left_seq IS NULL
                WHERE u.id <> g.sender_id
            ) END AS called
            FROM unnest(p_dialogs, p_senders, p_mentions) WITH ORDINALITY
                AS g (dialog_id, sender_id, mentions, ord)
        ) AS g;
    END IF;
    WITH given AS MATERIALIZED (
        SELECT g.*, d.seq + g.place AS seq, d.message_no + g.place AS no, greatest(d.active_at, v_now) AS at
        FROM unnest(p_dialogs, p_senders, p_keys, p_types, p_texts, p_attributes, p_replies, v_roots,
            p_files, v_called, p_hashes, p_places, p_lasts, p_marks) WITH ORDINALITY
        AS g (dialog_id, sender_id, key, type, body, attributes, reply_to, root, files, called, hash,
            place, is_last, marks, ord)
        JOIN dialogs d ON d.id = g.dialog_id AND d.closed_at IS NULL
        JOIN members m ON m.dialog_id = g.dialog_id AND m.user_id = g.sender_id
            AND coalesce(m.left_seq, 0) = 0
        LEFT JOIN LATERAL (
            SELECT s.seq FROM spent_ids s WHERE d.first_seq > 1 AND s.dialog_id = g.dialog_id
                AND s.sender_id = g.sender_id AND s.client_message_id = g.key OFFSET 0
        ) AS spent ON true
        WHERE spent.seq IS NULL AND (NOT v_blocks OR d.kind <> 1 OR g.type <> 'text' OR NOT EXISTS (
            SELECT FROM members o JOIN blocks b
            ON (b.blocker = o.user_id AND b.blocked = g.sender_id)
                OR (b.blocker = g.sender_id AND b.blocked = o.user_id)
            WHERE o.dialog_id = g.dialog_id
        ))
    ), written AS (
        INSERT INTO messages (dialog_id, seq, message_no, sender_id, client_message_id, type, text,
            attributes, reply_to, thread_seq, file_ids, mentions, request_hash, created_at)
        SELECT g.dialog_id, g.seq, g.no, g.sender_id, g.key, g.type, g.body, g.attributes::jsonb,
            g.reply_to, g.root, g.files::uuid[], g.called::uuid[], g.hash, g.at
        FROM given g
    ), moved AS (
        UPDATE dialogs d SET seq = g.seq, message_no = g.no, active_at = g.at
        FROM given g WHERE g.is_last AND d.id = g.dialog_id
    ), marked AS (
        UPDATE members m SET read_seq = g.seq, read_no = g.no
        FROM given g WHERE g.marks AND m.dialog_id = g.dialog_id AND m.user_id = g.sender_id
    )
    SELECT array_agg(g.seq ORDER BY g.ord), array_agg(g.no ORDER BY g.ord),
        array_agg((extract(epoch FROM g.at) * 1000000)::bigint ORDER BY g.ord)
    INTO v_seqs, v_numbers, v_stamps FROM given g;
    IF cardinality(v_seqs) IS DISTINCT FROM cardinality(p_dialogs) THEN
        RAISE EXCEPTION USING ERRCODE = 'SP001';
    END IF;
    IF p_mentions IS NOT NULL THEN
        INSERT INTO mentions (user_id, dialog_id, seq, message_no)
        SELECT u.id, g.dialog_id, g.seq, g.no
        FROM unnest(p_dialogs, v_seqs, v_numbers, v_called) AS g (dialog_id, seq, no, called)
        CROSS JOIN LATERAL unnest(g.called::uuid[]) AS u (id)
        WHERE g.called IS NOT NULL;
    END IF;
    IF p_threads IS NOT NULL THEN
        UPDATE messages m SET reply_count = m.reply_count + g.replies
        FROM (
            SELECT g.dialog_id, g.root, count(*) AS replies
            FROM unnest(p_dialogs, v_roots) AS g (dialog_id, root) WHERE g.root IS NOT NULL GROUP BY 1, 2
        ) AS g
        WHERE m.dialog_id = g.dialog_id AND m.seq = g.root;
    END IF;
    RETURN QUERY SELECT g.ord, 0, g.seq, g.no, g.stamp, g.root, g.called::uuid[]
        FROM unnest(v_seqs, v_numbers, v_stamps, v_roots, v_called) WITH ORDINALITY
        AS g (seq, no, stamp, root, called, ord);
EXCEPTION WHEN unique_violation OR SQLSTATE 'SP001' THEN
    RETURN QUERY SELECT * FROM post_messages(p_dialogs, p_senders, p_keys, p_types, p_texts, p_attributes,
        p_replies, p_threads, p_files, p_mentions, p_hashes);
END $$
"""
