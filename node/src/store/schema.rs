//! The tables, as steps of migration. Step n brings `user_version` from n to n + 1 and is never edited once released: a change is a new step.

use super::StoreError;
use rusqlite::Connection;

const STEPS: &[&str] = &[
    // Times are milliseconds since the Unix epoch; hashes are lower-case hex.
    "
    CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

    CREATE TABLE tenants (
        domain        TEXT PRIMARY KEY,
        max_sessions  INTEGER NOT NULL,
        fallback      TEXT NOT NULL,
        error_prompt  TEXT,
        created_at    INTEGER NOT NULL
    ) STRICT;

    -- An empty trunk is any trunk: NULLs would not collide in the key, and one number must lead to one tenant.
    CREATE TABLE numbers (
        trunk   TEXT NOT NULL DEFAULT '',
        number  TEXT NOT NULL,
        domain  TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        place   INTEGER NOT NULL,
        PRIMARY KEY (trunk, number)
    ) STRICT;
    CREATE INDEX numbers_by_domain ON numbers(domain, place);

    CREATE TABLE tenant_tokens (
        hash        TEXT PRIMARY KEY,
        domain      TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        label       TEXT NOT NULL,
        created_at  INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX tenant_tokens_by_domain ON tenant_tokens(domain);

    CREATE TABLE versions (
        domain       TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        number       INTEGER NOT NULL,
        sha256       TEXT NOT NULL,
        size         INTEGER NOT NULL,
        note         TEXT NOT NULL,
        uploaded_at  INTEGER NOT NULL,
        active       INTEGER NOT NULL DEFAULT 0 CHECK (active IN (0, 1)),
        PRIMARY KEY (domain, number),
        UNIQUE (domain, sha256)
    ) STRICT;
    CREATE UNIQUE INDEX versions_one_active ON versions(domain) WHERE active = 1;
    CREATE INDEX versions_by_hash ON versions(sha256);

    -- A stack: activating pushes, rolling back pops. The top is the active version.
    CREATE TABLE activations (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        domain  TEXT NOT NULL,
        number  INTEGER NOT NULL,
        at      INTEGER NOT NULL,
        FOREIGN KEY (domain, number) REFERENCES versions(domain, number) ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX activations_by_domain ON activations(domain, id);

    -- No reference to tenants: recordings and call records outlive their tenant's configuration.
    CREATE TABLE recordings (
        id                TEXT PRIMARY KEY,
        domain            TEXT NOT NULL,
        session           TEXT NOT NULL,
        caller            TEXT NOT NULL,
        called            TEXT NOT NULL,
        file_name         TEXT NOT NULL,
        path              TEXT NOT NULL,
        created_at        INTEGER NOT NULL,
        duration_ms       INTEGER NOT NULL,
        frames_expected   INTEGER NOT NULL,
        frames_received   INTEGER NOT NULL,
        frames_concealed  INTEGER NOT NULL,
        frames_silence    INTEGER NOT NULL,
        sha256            TEXT NOT NULL,
        size              INTEGER NOT NULL,
        stop_reason       TEXT NOT NULL,
        state             TEXT NOT NULL CHECK (state IN ('recording', 'available', 'failed'))
    ) STRICT;
    CREATE INDEX recordings_newest ON recordings(domain, created_at DESC, id DESC);
    CREATE INDEX recordings_by_name ON recordings(domain, file_name);
    CREATE INDEX recordings_newest_of_all ON recordings(created_at DESC, id DESC);

    CREATE TABLE call_records (
        id                 INTEGER PRIMARY KEY AUTOINCREMENT,
        session            TEXT NOT NULL,
        domain             TEXT NOT NULL,
        caller             TEXT NOT NULL,
        called             TEXT NOT NULL,
        started_at         INTEGER NOT NULL,
        answered_after_ms  INTEGER,
        duration_ms        INTEGER NOT NULL,
        reason             TEXT NOT NULL,
        final_status       INTEGER NOT NULL,
        rtp_received       INTEGER NOT NULL,
        rtp_sent           INTEGER NOT NULL,
        rtp_lost           INTEGER NOT NULL,
        rtp_late           INTEGER NOT NULL,
        rtp_concealed      INTEGER NOT NULL,
        rtp_foreign        INTEGER NOT NULL,
        rtp_jitter         INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX call_records_by_domain ON call_records(domain, id DESC);

    CREATE TABLE audit (
        id      INTEGER PRIMARY KEY AUTOINCREMENT,
        at      INTEGER NOT NULL,
        who     TEXT NOT NULL,
        domain  TEXT NOT NULL,
        what    TEXT NOT NULL,
        detail  TEXT NOT NULL
    ) STRICT;
    ",
    // Lists are JSON arrays of texts: they are read and written whole.
    "
    ALTER TABLE tenants ADD COLUMN destinations     TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE tenants ADD COLUMN mediaservice_ids TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE tenants ADD COLUMN trusted          INTEGER NOT NULL DEFAULT 0 CHECK (trusted IN (0, 1));
    ALTER TABLE tenants ADD COLUMN outbox_origins   TEXT NOT NULL DEFAULT '[]';

    -- Public keys that a tenant's JWTs are verified with. `key`: modulus and exponent in base64url, with a dot between.
    CREATE TABLE tenant_keys (
        domain      TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        label       TEXT NOT NULL,
        key         TEXT NOT NULL,
        created_at  INTEGER NOT NULL,
        PRIMARY KEY (domain, label)
    ) STRICT;

    ALTER TABLE recordings ADD COLUMN connection TEXT;
    CREATE INDEX recordings_by_session ON recordings(domain, session, created_at DESC, id DESC);
    ",
    // Ids are never used twice: they are the order of a session's posts.
    "
    CREATE TABLE outbox (
        id            INTEGER PRIMARY KEY AUTOINCREMENT,
        event_id      TEXT NOT NULL UNIQUE,
        domain        TEXT NOT NULL,
        session       TEXT NOT NULL,
        url           TEXT NOT NULL,
        content_type  TEXT NOT NULL,
        headers       TEXT NOT NULL,
        body          BLOB NOT NULL,
        report        INTEGER NOT NULL CHECK (report IN (0, 1)),
        created_at    INTEGER NOT NULL,
        attempts      INTEGER NOT NULL,
        next_at       INTEGER NOT NULL,
        size          INTEGER NOT NULL
    ) STRICT;
    ",
    "
    ALTER TABLE tenants ADD COLUMN recording_retention_ms INTEGER;

    -- Where a tenant's recordings go. `sealed`: credentials, under the node's key.
    CREATE TABLE tenant_storage (
        domain      TEXT PRIMARY KEY REFERENCES tenants(domain) ON DELETE CASCADE,
        url         TEXT NOT NULL,
        endpoint    TEXT,
        region      TEXT NOT NULL,
        every       INTEGER NOT NULL CHECK (every IN (0, 1)),
        sealed      BLOB NOT NULL,
        changed_at  INTEGER NOT NULL
    ) STRICT;

    -- What was asked of a recording's keeping when it began, where that is more than the usual. `due_at`: it goes then; once it is finished.
    CREATE TABLE recording_terms (
        recording     TEXT PRIMARY KEY,
        domain        TEXT NOT NULL,
        session       TEXT NOT NULL,
        class         TEXT NOT NULL CHECK (class IN ('prompt_store', 'ephemeral', 'tenant_bucket')),
        retention_ms  INTEGER,
        ended_at      INTEGER,
        due_at        INTEGER
    ) STRICT;
    CREATE INDEX recording_terms_due ON recording_terms(due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX recording_terms_running ON recording_terms(session) WHERE class = 'ephemeral' AND ended_at IS NULL;

    -- `upload`: a multipart upload that is not over, as JSON. `place`: the storage's URL, empty until something was sent.
    CREATE TABLE deliveries (
        recording   TEXT PRIMARY KEY,
        domain      TEXT NOT NULL,
        session     TEXT NOT NULL,
        event_id    TEXT NOT NULL,
        size        INTEGER NOT NULL,
        state       TEXT NOT NULL CHECK (state IN ('uploading', 'available', 'failed', 'erasing')),
        keep_local  INTEGER NOT NULL CHECK (keep_local IN (0, 1)),
        place       TEXT NOT NULL DEFAULT '',
        key         TEXT NOT NULL DEFAULT '',
        upload      TEXT,
        attempts    INTEGER NOT NULL DEFAULT 0,
        next_at     INTEGER NOT NULL,
        created_at  INTEGER NOT NULL,
        why         TEXT,
        announced   INTEGER NOT NULL DEFAULT 0 CHECK (announced IN (0, 1))
    ) STRICT;
    CREATE INDEX deliveries_due ON deliveries(next_at) WHERE state IN ('uploading', 'erasing') OR upload IS NOT NULL;
    CREATE INDEX deliveries_untold ON deliveries(created_at) WHERE announced = 0 AND state IN ('available', 'failed');
    CREATE INDEX deliveries_waiting ON deliveries(domain, created_at) WHERE state = 'uploading';

    CREATE TABLE recording_holds (
        recording  TEXT PRIMARY KEY,
        domain     TEXT NOT NULL,
        who        TEXT NOT NULL,
        why        TEXT NOT NULL,
        at         INTEGER NOT NULL
    ) STRICT;

    -- All that stays of a recording: nobody's number, nobody's name. `files`: its row and its files are still to be removed.
    CREATE TABLE recordings_gone (
        recording  TEXT PRIMARY KEY,
        domain     TEXT NOT NULL,
        at         INTEGER NOT NULL,
        why        TEXT NOT NULL,
        files      INTEGER NOT NULL CHECK (files IN (0, 1))
    ) STRICT;
    CREATE INDEX recordings_going ON recordings_gone(at) WHERE files = 1;

    CREATE TABLE recording_access (
        id         INTEGER PRIMARY KEY AUTOINCREMENT,
        recording  TEXT NOT NULL,
        domain     TEXT NOT NULL,
        at         INTEGER NOT NULL,
        who        TEXT NOT NULL,
        peer       TEXT NOT NULL,
        how        TEXT NOT NULL,
        first      INTEGER,
        last       INTEGER
    ) STRICT;
    CREATE INDEX recording_access_of ON recording_access(recording, id DESC);
    ",
    // A row from before says nothing of these: it is WAV, PCM16 at 8 kHz.
    "
    ALTER TABLE recordings ADD COLUMN control_id      TEXT;
    ALTER TABLE recordings ADD COLUMN client_context  TEXT;
    ALTER TABLE recordings ADD COLUMN dialect         TEXT NOT NULL DEFAULT 'native';
    ALTER TABLE recordings ADD COLUMN container       TEXT NOT NULL DEFAULT 'wav';
    ALTER TABLE recordings ADD COLUMN encoding        TEXT NOT NULL DEFAULT 'pcm16';
    ALTER TABLE recordings ADD COLUMN sample_rate     INTEGER NOT NULL DEFAULT 8000;
    ALTER TABLE recordings ADD COLUMN channels        INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE recordings ADD COLUMN stop_digit      TEXT;
    ALTER TABLE recordings ADD COLUMN contains_sound  INTEGER;
    ALTER TABLE recordings ADD COLUMN ended_at        INTEGER;
    ALTER TABLE recordings ADD COLUMN storage_class   TEXT NOT NULL DEFAULT 'prompt_store';
    ALTER TABLE recordings ADD COLUMN retention_ms    INTEGER;
    ALTER TABLE recordings ADD COLUMN sidecar         TEXT NOT NULL DEFAULT '';
    ALTER TABLE recordings ADD COLUMN wrapped_key     BLOB;
    ",
    // Who is to hear of a recording's end when the node that made it is no longer the one that tells.
    "
    ALTER TABLE recording_terms ADD COLUMN participant       TEXT NOT NULL DEFAULT '';
    ALTER TABLE recording_terms ADD COLUMN status_url        TEXT;
    ALTER TABLE recording_terms ADD COLUMN on_complete_url   TEXT;
    ALTER TABLE recording_terms ADD COLUMN on_available_url  TEXT;
    ",
    // What handlers keep and read: a tenant's own, gone with it. `expires_at`: from then on it is as if it were not there.
    "
    CREATE TABLE handler_values (
        domain      TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        key         TEXT NOT NULL,
        value       BLOB NOT NULL,
        version     INTEGER NOT NULL,
        expires_at  INTEGER,
        PRIMARY KEY (domain, key)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX handler_values_due ON handler_values(expires_at) WHERE expires_at IS NOT NULL;

    -- Bytes of a tenant's values, and the version that was given last.
    CREATE TABLE handler_values_used (
        domain   TEXT PRIMARY KEY REFERENCES tenants(domain) ON DELETE CASCADE,
        bytes    INTEGER NOT NULL,
        version  INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE handler_settings (
        domain      TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        key         TEXT NOT NULL,
        value       TEXT NOT NULL,
        changed_at  INTEGER NOT NULL,
        PRIMARY KEY (domain, key)
    ) STRICT, WITHOUT ROWID;

    -- `sealed`: under the node's key.
    CREATE TABLE handler_secrets (
        domain      TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        name        TEXT NOT NULL,
        sealed      BLOB NOT NULL,
        changed_at  INTEGER NOT NULL,
        PRIMARY KEY (domain, name)
    ) STRICT, WITHOUT ROWID;
    ",
    // What serves calls already is not on trial. `signature`: id of the key and signature.
    "
    ALTER TABLE versions ADD COLUMN proven     INTEGER NOT NULL DEFAULT 0 CHECK (proven IN (0, 1));
    ALTER TABLE versions ADD COLUMN signature  TEXT;
    UPDATE versions SET proven = 1 WHERE active = 1;

    -- A version that is tried beside the active one, with a share of the calls or with calls to some numbers (a JSON array).
    CREATE TABLE canaries (
        domain   TEXT PRIMARY KEY,
        number   INTEGER NOT NULL,
        percent  INTEGER CHECK (percent BETWEEN 1 AND 99),
        numbers  TEXT,
        at       INTEGER NOT NULL,
        CHECK ((percent IS NULL) <> (numbers IS NULL)),
        FOREIGN KEY (domain, number) REFERENCES versions(domain, number) ON DELETE CASCADE
    ) STRICT;

    -- What a tenant's versions must fulfil. `signing_keys`: a JSON array of public keys. A tenant without a row has the defaults.
    CREATE TABLE guest_policies (
        domain                TEXT PRIMARY KEY REFERENCES tenants(domain) ON DELETE CASCADE,
        require_signature     INTEGER NOT NULL CHECK (require_signature IN (0, 1)),
        signing_keys          TEXT NOT NULL,
        trial_calls           INTEGER NOT NULL,
        trial_min_calls       INTEGER NOT NULL,
        trial_failed_percent  INTEGER NOT NULL
    ) STRICT;
    ",
    // Quotas are a JSON object, trunks a JSON array of texts. Roles are texts with commas between; a token or key from before has them all.
    "
    ALTER TABLE tenants ADD COLUMN quotas TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE tenants ADD COLUMN trunks TEXT NOT NULL DEFAULT '[]';

    ALTER TABLE tenant_tokens ADD COLUMN roles      TEXT NOT NULL DEFAULT 'deploy,operate,read';
    ALTER TABLE tenant_tokens ADD COLUMN expires_at INTEGER;
    ALTER TABLE tenant_tokens ADD COLUMN used_at    INTEGER;
    ALTER TABLE tenant_keys   ADD COLUMN roles      TEXT NOT NULL DEFAULT 'deploy,operate,read';
    ALTER TABLE tenant_keys   ADD COLUMN expires_at INTEGER;
    ALTER TABLE tenant_keys   ADD COLUMN used_at    INTEGER;

    ALTER TABLE audit ADD COLUMN source  TEXT NOT NULL DEFAULT '';
    ALTER TABLE audit ADD COLUMN outcome TEXT NOT NULL DEFAULT 'done';
    CREATE INDEX audit_by_domain ON audit(domain, id DESC);

    -- What a tenant used on a day (UTC, as days since the Unix epoch). No reference to tenants: bills outlive their tenant.
    CREATE TABLE usage (
        domain            TEXT NOT NULL,
        day               INTEGER NOT NULL,
        calls             INTEGER NOT NULL DEFAULT 0,
        answered          INTEGER NOT NULL DEFAULT 0,
        in_ms             INTEGER NOT NULL DEFAULT 0,
        placed            INTEGER NOT NULL DEFAULT 0,
        out_ms            INTEGER NOT NULL DEFAULT 0,
        recordings        INTEGER NOT NULL DEFAULT 0,
        recorded_ms       INTEGER NOT NULL DEFAULT 0,
        storage_byte_ms   REAL NOT NULL DEFAULT 0,
        storage_peak      INTEGER NOT NULL DEFAULT 0,
        guest_cpu_us      INTEGER NOT NULL DEFAULT 0,
        posts             INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (domain, day)
    ) STRICT;
    CREATE INDEX recordings_sizes ON recordings(domain, size);
    ",
    // Who may upload components with a whole interpreter in them.
    "
    ALTER TABLE tenants ADD COLUMN large_components INTEGER NOT NULL DEFAULT 0;
    ",
    // What calls to a number do without their handler.
    "
    CREATE TABLE number_fallbacks (
        domain TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        number TEXT NOT NULL,
        mode TEXT NOT NULL,
        command TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        changed_at INTEGER NOT NULL,
        PRIMARY KEY (domain, number)
    ) STRICT;
    ",
    // Who is recorded is told: by a tenant's rule, and whether it was so.
    "
    ALTER TABLE tenants ADD COLUMN record_announce TEXT NOT NULL DEFAULT 'off' CHECK (record_announce IN ('off', 'always'));
    ALTER TABLE recordings ADD COLUMN announce INTEGER NOT NULL DEFAULT 0 CHECK (announce IN (0, 1));
    ",
    // Hz of recordings in Graph's way, where it is not the usual.
    "
    ALTER TABLE tenants ADD COLUMN graph_sample_rate INTEGER;
    ",
    // Ages go by how long the node has run, not by a clock that may be set.
    "
    CREATE TABLE running (
        only  INTEGER PRIMARY KEY CHECK (only = 0),
        ms    INTEGER NOT NULL
    ) STRICT;
    INSERT INTO running (only, ms) VALUES (0, 0);
    ALTER TABLE outbox     ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE deliveries ADD COLUMN born INTEGER NOT NULL DEFAULT 0;
    ",
    // Whose ringing tone is heard, and in which order codecs are offered.
    "
    ALTER TABLE tenants ADD COLUMN country TEXT NOT NULL DEFAULT 'SE';
    ALTER TABLE tenants ADD COLUMN codecs  TEXT NOT NULL DEFAULT '[]';
    ",
    // Called numbers whose calls the handler identifies.
    "
    ALTER TABLE tenants ADD COLUMN in_numbers TEXT NOT NULL DEFAULT '[]';
    ",
    // The cloud user agent: who is a device, and where devices may take their media.
    "
    ALTER TABLE tenants ADD COLUMN media_addresses TEXT NOT NULL DEFAULT '[]';
    CREATE TABLE devices (
        domain      TEXT NOT NULL REFERENCES tenants(domain) ON DELETE CASCADE,
        device_id   TEXT NOT NULL,
        device_type TEXT NOT NULL,
        description TEXT NOT NULL,
        changed_at  INTEGER NOT NULL,
        PRIMARY KEY (domain, device_id)
    ) STRICT;
    ",
];

/// Brings the database to the newest version. Refuses one that a newer node has written: its meaning is unknown here.
pub(super) fn migrate(db: &mut Connection) -> Result<(), StoreError> {
    let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let newest = STEPS.len();
    let Some(done) = usize::try_from(found).ok().filter(|done| *done <= newest) else {
        return Err(StoreError::Newer { found, newest });
    };
    for (step, sql) in STEPS.iter().enumerate().skip(done) {
        // One transaction a step: a crash leaves the database at a step, never between two.
        let change = db.transaction()?;
        change.execute_batch(sql)?;
        change.pragma_update(None, "user_version", i64::try_from(step + 1).expect("a handful of steps"))?;
        change.commit()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrating_twice_changes_nothing_and_a_newer_database_is_refused() {
        let mut db = Connection::open_in_memory().expect("memory");
        migrate(&mut db).expect("from nothing");
        let tables = |db: &Connection| -> i64 { db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).expect("count") };
        let before = tables(&db);
        assert!(before >= 9, "{before}");
        migrate(&mut db).expect("again");
        assert_eq!(tables(&db), before);
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("version");
        assert_eq!(version, i64::try_from(STEPS.len()).expect("small"));

        db.pragma_update(None, "user_version", version + 1).expect("pragma");
        assert!(matches!(migrate(&mut db), Err(StoreError::Newer { .. })));
        db.pragma_update(None, "user_version", -1).expect("pragma");
        assert!(matches!(migrate(&mut db), Err(StoreError::Newer { .. })));
    }

    #[test]
    fn every_table_is_strict() {
        let mut db = Connection::open_in_memory().expect("memory");
        migrate(&mut db).expect("from nothing");
        let mut loose = db
            .prepare("SELECT name FROM pragma_table_list WHERE schema = 'main' AND strict = 0 AND name NOT LIKE 'sqlite_%'")
            .expect("sql");
        let names: Vec<String> = loose.query_map([], |row| row.get(0)).expect("query").map(|name| name.expect("name")).collect();
        assert!(names.is_empty(), "{names:?}");
    }
}
