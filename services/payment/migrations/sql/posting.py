"""The function that posts a batch of transfers in one round trip."""

from __future__ import annotations

from services.payment.migrations.sql.ledger import PLANS

# Each statement of it sees what was committed before it began, so what is read after the locks were had is
# true until the commit. The loop decides in the order of the entries and counts on what those before moved.
#
# An entry moves an amount from an account, which must be a wallet of `p_owners` where that is given, to an
# account or to the wallet of a recipient in the same currency; and a fee from the same account to ours.
#
# Events of one subject become one: their bytes are joined, which for protobuf is the message of all.
#
# Status: 0 posted, 1 was posted before, 2 its key was used for another request, 3 no such wallet, 4 another
# currency, 5 to itself, 6 suspended, 7 no such recipient, 8 over the daily limit, 9 not enough. With 0 comes
# the balance after it, with 1 what is known: that is what the request is answered with, now and for ever.
#
# What a statement costs here is its start, so those that have nothing to do are left out.
#
# Accounts are known by their place in the sorted `v_ids`, which width_bucket finds by halving.
POST_BATCH = f"""
CREATE OR REPLACE FUNCTION post_batch(
    p_ids uuid[], p_kinds text[], p_callers text[], p_keys uuid[], p_hashes bytea[],
    p_debits uuid[], p_owners uuid[], p_credits uuid[], p_recipients uuid[],
    p_amounts bigint[], p_currencies text[], p_fees bigint[], p_fee_ids uuid[], p_refers uuid[],
    p_persons uuid[], p_notes bytea[], p_subjects text[], p_events bytea[], p_traces text[], p_limits text,
    OUT statuses integer[], OUT balances_after bigint[], OUT stamp bigint,
    OUT known uuid[], OUT known_balances bigint[], OUT known_fees bigint[], OUT known_stamps bigint[]
) LANGUAGE plpgsql VOLATILE {PLANS}
AS $$
#variable_conflict use_column
DECLARE
    v_count CONSTANT integer := cardinality(p_ids);
    v_limits CONSTANT jsonb := p_limits::jsonb;
    v_keyed CONSTANT boolean := array_remove(p_keys, NULL) <> ARRAY[]::uuid[];
    v_now timestamptz;
    -- By entry: where it goes, what is known of its key.
    v_credits uuid[];
    v_fee_accounts uuid[];
    v_known_hashes bytea[];
    -- By account.
    v_ids uuid[];
    v_owners uuid[];
    v_currencies text[];
    v_bounded boolean[];
    v_suspended boolean[];
    v_balances bigint[];
    v_held bigint[];
    v_seqs bigint[];
    v_spent bigint[];
    v_most bigint[];
    -- What is written: for each transfer its entry, and both legs.
    t_count integer := 0;
    t_entry integer[];
    t_fee boolean[];
    t_debit_seq bigint[];
    t_credit_seq bigint[];
    d integer;
    c integer;
    f integer;
BEGIN
    SELECT array_agg(coalesce(g.credit, w.id) ORDER BY g.ord) INTO v_credits
    FROM unnest(p_credits, p_recipients, p_currencies) WITH ORDINALITY AS g (credit, recipient, currency, ord)
    LEFT JOIN accounts w ON w.owner = g.recipient AND w.currency = g.currency;
    IF 0 < ANY (p_fees) THEN
        SELECT array_agg(f.id ORDER BY g.ord) INTO v_fee_accounts
        FROM unnest(p_currencies, p_fees) WITH ORDINALITY AS g (currency, fee, ord)
        LEFT JOIN accounts f ON g.fee > 0 AND f.owner IS NULL AND f.kind = 'fees' AND f.name = ''
            AND f.currency = g.currency AND f.stripe = pg_backend_pid() % 8;
    END IF;
    v_ids := p_debits || v_credits || v_fee_accounts;
    PERFORM FROM accounts WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE;
    v_now := clock_timestamp();
    stamp := extract(epoch FROM v_now) * 1000000;
    balances_after := array_fill(NULL::bigint, ARRAY[v_count]);
    SELECT array_agg(a.id ORDER BY a.id), array_agg(a.owner ORDER BY a.id),
        array_agg(a.currency ORDER BY a.id), array_agg(NOT a.may_go_negative ORDER BY a.id),
        array_agg(a.suspended ORDER BY a.id), array_agg(a.balance ORDER BY a.id),
        array_agg(a.held ORDER BY a.id), array_agg(a.seq ORDER BY a.id),
        array_agg(CASE WHEN a.day = (v_now AT TIME ZONE a.time_zone)::date THEN a.spent_today ELSE 0 END
            ORDER BY a.id),
        array_agg((v_limits -> a.currency ->> a.kyc_tier)::bigint ORDER BY a.id)
    INTO v_ids, v_owners, v_currencies, v_bounded, v_suspended, v_balances, v_held, v_seqs, v_spent, v_most
    FROM accounts a WHERE a.id = ANY (v_ids);
    IF v_keyed THEN
        SELECT array_agg(r.transaction_id ORDER BY k.ord), array_agg(r.request_hash ORDER BY k.ord),
            array_agg(r.balance_after ORDER BY k.ord),
            array_agg((extract(epoch FROM r.created_at) * 1000000)::bigint ORDER BY k.ord),
            array_agg(r.fee ORDER BY k.ord)
        INTO known, v_known_hashes, known_balances, known_stamps, known_fees
        FROM unnest(p_keys) WITH ORDINALITY AS k (key, ord) LEFT JOIN requests r ON r.key = k.key;
    END IF;

    FOR i IN 1..v_count LOOP
        d := width_bucket(p_debits[i], v_ids);
        c := width_bucket(v_credits[i], v_ids);
        IF known[i] IS NOT NULL THEN
            statuses[i] := CASE WHEN v_known_hashes[i] = p_hashes[i] THEN 1 ELSE 2 END;
        ELSIF v_ids[d] IS DISTINCT FROM p_debits[i] OR p_owners[i] <> v_owners[d]
            OR (v_owners[d] IS NULL AND (p_owners[i] IS NOT NULL OR p_kinds[i] = 'transfer')) THEN
            statuses[i] := 3;
        ELSIF v_currencies[d] <> p_currencies[i] THEN
            statuses[i] := 4;
        ELSIF v_credits[i] = p_debits[i] OR p_recipients[i] = v_owners[d] THEN
            statuses[i] := 5;
        ELSIF v_suspended[d] THEN
            statuses[i] := 6;
        ELSIF v_credits[i] IS NULL OR v_ids[c] IS DISTINCT FROM v_credits[i] OR v_suspended[c]
            OR (v_owners[c] IS NULL AND p_kinds[i] = 'transfer') THEN
            statuses[i] := 7;
        ELSIF v_currencies[c] <> p_currencies[i] THEN
            statuses[i] := 4;
        ELSIF v_bounded[d] AND p_kinds[i] <> 'capture'
            AND v_balances[d] - v_held[d] < p_amounts[i] + p_fees[i] THEN
            statuses[i] := 9;
        ELSIF p_kinds[i] = 'send' AND v_spent[d] + p_amounts[i] > v_most[d] THEN
            statuses[i] := 8;
        ELSE
            statuses[i] := 0;
            IF p_kinds[i] = 'send' THEN
                v_spent[d] := v_spent[d] + p_amounts[i];
            ELSIF p_kinds[i] = 'capture' THEN
                v_held[d] := v_held[d] - p_amounts[i];
            END IF;
            v_balances[d] := v_balances[d] - p_amounts[i] - p_fees[i];
            v_balances[c] := v_balances[c] + p_amounts[i];
            v_seqs[d] := v_seqs[d] + 1;
            v_seqs[c] := v_seqs[c] + 1;
            balances_after[i] := v_balances[d];
            t_count := t_count + 1;
            t_entry[t_count] := i;
            t_fee[t_count] := false;
            t_debit_seq[t_count] := v_seqs[d];
            t_credit_seq[t_count] := v_seqs[c];
            IF p_fees[i] > 0 THEN
                f := width_bucket(v_fee_accounts[i], v_ids);
                v_balances[f] := v_balances[f] + p_fees[i];
                v_seqs[d] := v_seqs[d] + 1;
                v_seqs[f] := v_seqs[f] + 1;
                t_count := t_count + 1;
                t_entry[t_count] := i;
                t_fee[t_count] := true;
                t_debit_seq[t_count] := v_seqs[d];
                t_credit_seq[t_count] := v_seqs[f];
            END IF;
        END IF;
    END LOOP;

    IF t_count = 0 THEN
        RETURN;
    END IF;
    IF v_keyed THEN
        INSERT INTO requests (key, request_hash, transaction_id, balance_after, fee, created_at)
        SELECT e.key, e.hash, e.id, e.after, e.fee, v_now
        FROM unnest(p_keys, p_hashes, p_ids, balances_after, p_fees, statuses)
            AS e (key, hash, id, after, fee, status)
        WHERE e.status = 0 AND e.key IS NOT NULL;
    END IF;
    IF array_remove(p_notes, NULL) <> ARRAY[]::bytea[] THEN
        INSERT INTO notes (transaction_id, person_id, sealed)
        SELECT e.id, e.person, e.note
        FROM unnest(p_ids, p_persons, p_notes, statuses) AS e (id, person, note, status)
        WHERE e.status = 0 AND e.note IS NOT NULL;
    END IF;
    IF array_remove(p_events, NULL) <> ARRAY[]::bytea[] THEN
        INSERT INTO outbox (id, subject, aggregate_id, aggregate_version, payload, traceparent)
        SELECT (array_agg(e.id ORDER BY e.ord))[1], e.subject, (array_agg(e.id ORDER BY e.ord))[1], 1,
            string_agg(e.event, '' ORDER BY e.ord), max(e.trace)
        FROM unnest(p_ids, p_subjects, p_events, p_traces, statuses) WITH ORDINALITY
            AS e (id, subject, event, trace, status, ord)
        WHERE e.status = 0 AND e.event IS NOT NULL GROUP BY e.subject;
    END IF;
    INSERT INTO transfers (id, transaction_id, kind, debit_account, debit_seq, credit_account, credit_seq,
        amount, currency, refers_to, caller, created_at)
    SELECT CASE WHEN t.fee THEN p_fee_ids[t.i] ELSE p_ids[t.i] END, p_ids[t.i],
        CASE WHEN t.fee THEN 'fee' ELSE p_kinds[t.i] END, p_debits[t.i], t.debit_seq,
        CASE WHEN t.fee THEN v_fee_accounts[t.i] ELSE v_credits[t.i] END, t.credit_seq,
        CASE WHEN t.fee THEN p_fees[t.i] ELSE p_amounts[t.i] END, p_currencies[t.i], p_refers[t.i],
        p_callers[t.i], v_now
    FROM unnest(t_entry, t_fee, t_debit_seq, t_credit_seq) AS t (i, fee, debit_seq, credit_seq);
END $$
"""  # noqa: S608 - made of constants
SIGNATURE = (
    "post_batch(uuid[], text[], text[], uuid[], bytea[], uuid[], uuid[], uuid[], uuid[], bigint[],"
    " text[], bigint[], uuid[], uuid[], uuid[], bytea[], text[], bytea[], text[], text)"
)

# The number of an account's first posting from a moment on, found by halving: numbers have no gaps, and times
# follow them.
SEQ_AT = """
CREATE FUNCTION seq_at(p_account uuid, p_moment timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_low bigint := 1;
    v_high bigint;
    v_middle bigint;
BEGIN
    SELECT seq + 1 INTO v_high FROM accounts WHERE id = p_account;
    WHILE v_low < v_high LOOP
        v_middle := (v_low + v_high) / 2;
        IF (SELECT created_at < p_moment FROM postings WHERE account_id = p_account AND seq = v_middle) THEN
            v_low := v_middle + 1;
        ELSE
            v_high := v_middle;
        END IF;
    END LOOP;
    RETURN v_low;
END $$
"""

# What earlier ledgers post by.
EARLIER = (
    "post_transfers(uuid[], text[], text[], uuid[], bytea[], uuid[], uuid[], uuid[], uuid[], bigint[],"
    " text[], bigint[], uuid[], uuid[], uuid[], bytea[], uuid[], text[], bytea[], text[], text)"
)
FUNCTIONS = {SIGNATURE: POST_BATCH, "seq_at(uuid, timestamptz)": SEQ_AT}
RIGHTS = tuple(f"GRANT EXECUTE ON FUNCTION {name} TO payment" for name in FUNCTIONS)
