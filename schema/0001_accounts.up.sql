-- Accounts, sessions, tokens, audit. Ids are UUIDv7 made by the service; times come from the service's clock.

CREATE TYPE user_status AS ENUM ('pending', 'active', 'suspended');

-- email has the "C" collation so that a prefix is a range of the unique index, whatever the database's locale.
CREATE TABLE users (
    id              uuid        NOT NULL,
    email           text        NOT NULL COLLATE "C",
    email_verified  boolean     NOT NULL DEFAULT false,
    password_hash   text,       -- NULL until the first one is set
    status          user_status NOT NULL,
    scope           text[]      NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    last_login      timestamptz,
    failed_attempts integer     NOT NULL DEFAULT 0,
    failed_at       timestamptz,
    locked_until    timestamptz,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_email_key UNIQUE (email),
    CONSTRAINT users_email_canonical CHECK (email = lower(email) AND length(email) <= 254)
);
CREATE INDEX users_status_id ON users (status, id);
CREATE INDEX users_active_admins ON users (id) WHERE status = 'active' AND 'admin' = ANY (scope);

CREATE TABLE user_profiles (
    user_id uuid  NOT NULL,
    data    jsonb NOT NULL,
    CONSTRAINT user_profiles_pkey PRIMARY KEY (user_id),
    CONSTRAINT user_profiles_user_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

-- Wrong passwords for emails that have no account, so that these lock like the others. The key is an HMAC of the email.
CREATE TABLE login_attempts (
    fingerprint     bytea       NOT NULL,
    failed_attempts integer     NOT NULL,
    failed_at       timestamptz NOT NULL,
    locked_until    timestamptz,
    CONSTRAINT login_attempts_pkey PRIMARY KEY (fingerprint)
);
CREATE INDEX login_attempts_failed_at ON login_attempts (failed_at);

-- The lock's two rules, used for both tables above. A day without a failure forgets the earlier ones.
CREATE FUNCTION next_failures(failed integer, last timestamptz, now timestamptz) RETURNS integer
    LANGUAGE sql STABLE
    RETURN CASE WHEN last > now - interval '24 hours' THEN failed + 1 ELSE 1 END;

-- 5 failures lock for 30 s; each further one doubles it, up to 15 min.
CREATE FUNCTION lock_until(failed integer, now timestamptz) RETURNS timestamptz
    LANGUAGE sql STABLE
    RETURN CASE WHEN failed >= 5 THEN now + least(interval '30 seconds' * 2 ^ least(failed - 5, 10), interval '15 minutes') END;

-- A session is one login. The refresh token is a function of id and generation and is not stored. An ended session has no
-- row. The id holds the time of the login, so old sessions are found by the primary key.
CREATE TABLE sessions (
    id         uuid        NOT NULL,
    user_id    uuid        NOT NULL,
    generation bigint      NOT NULL DEFAULT 0, -- 4 bytes in the token
    created_at timestamptz NOT NULL,
    rotated_at timestamptz NOT NULL,           -- when the generation was reached
    expires_at timestamptz NOT NULL,           -- the cap, counted from the login
    ip         inet        NOT NULL,
    user_agent text        NOT NULL,
    CONSTRAINT sessions_pkey PRIMARY KEY (id),
    CONSTRAINT sessions_user_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX sessions_user_id ON sessions (user_id, id);

-- What must be refused before it expires: access tokens (kind jti) and all tokens of ended sessions (kind sid).
-- xid lets an instance ask for what was committed since it last asked, however late a transaction commits.
CREATE TABLE revoked_tokens (
    token_id   uuid        NOT NULL,
    kind       text        NOT NULL,
    revoked_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    reason     text        NOT NULL,
    xid        xid8        NOT NULL DEFAULT pg_current_xact_id(),
    CONSTRAINT revoked_tokens_pkey PRIMARY KEY (token_id),
    CONSTRAINT revoked_tokens_kind CHECK (kind IN ('jti', 'sid'))
);
CREATE INDEX revoked_tokens_xid ON revoked_tokens (xid);
CREATE INDEX revoked_tokens_expires_at ON revoked_tokens (expires_at);

-- One token of each purpose for a user: a newer one takes the older one's place. Only the hash is kept.
CREATE TABLE one_time_tokens (
    user_id    uuid        NOT NULL,
    purpose    text        NOT NULL,
    hash       bytea       NOT NULL, -- SHA-256
    email      text        NOT NULL, -- the address it was sent to
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    sent_since timestamptz NOT NULL DEFAULT '-infinity', -- the mails that strangers caused, counted from here
    sent       integer     NOT NULL DEFAULT 0,
    CONSTRAINT one_time_tokens_pkey PRIMARY KEY (user_id, purpose),
    CONSTRAINT one_time_tokens_hash_key UNIQUE (hash),
    CONSTRAINT one_time_tokens_purpose CHECK (purpose IN ('reset', 'verify')),
    CONSTRAINT one_time_tokens_user_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX one_time_tokens_expires_at ON one_time_tokens (expires_at);

CREATE TABLE signing_keys (
    kid         text        NOT NULL, -- RFC 7638 thumbprint
    alg         text        NOT NULL,
    public_key  bytea       NOT NULL,
    private_key bytea       NOT NULL, -- sealed: AES-256-GCM under a key derived from USERSPACE_SECRET
    created_at  timestamptz NOT NULL,
    not_before  timestamptz NOT NULL,
    retired_at  timestamptz,
    CONSTRAINT signing_keys_pkey PRIMARY KEY (kid)
);

-- Rows are only ever added (grants.sql). user_id and actor_id outlive the user, so they reference nothing.
CREATE TABLE audit_log (
    id          uuid             NOT NULL,
    timestamp   timestamptz      NOT NULL,
    trace_id    text             NOT NULL COLLATE "C",
    user_id     uuid,            -- whom it concerns
    actor_id    uuid,            -- who did it
    ip          inet,
    action      text             NOT NULL COLLATE "C",
    status      text             NOT NULL,
    duration_ms double precision NOT NULL,
    metadata    jsonb            NOT NULL,
    CONSTRAINT audit_log_pkey PRIMARY KEY (id),
    CONSTRAINT audit_log_status CHECK (status IN ('success', 'failure', 'denied'))
);
CREATE INDEX audit_log_user_id ON audit_log (user_id, id);
CREATE INDEX audit_log_actor_id ON audit_log (actor_id, id);
CREATE INDEX audit_log_action ON audit_log (action, id);
CREATE INDEX audit_log_status_id ON audit_log (status, id) WHERE status <> 'success';
CREATE INDEX audit_log_ip ON audit_log (ip, id);
CREATE INDEX audit_log_trace_id ON audit_log (trace_id);

-- Mails to send, written in the transaction that causes them, deleted when delivered. The message is sealed: it holds a
-- one-time token.
CREATE TABLE outbox (
    id           uuid        NOT NULL,
    user_id      uuid        NOT NULL,
    message      bytea       NOT NULL,
    created_at   timestamptz NOT NULL,
    next_attempt timestamptz NOT NULL,
    attempts     integer     NOT NULL DEFAULT 0,
    last_error   text        NOT NULL DEFAULT '',
    failed_at    timestamptz, -- given up
    CONSTRAINT outbox_pkey PRIMARY KEY (id),
    CONSTRAINT outbox_user_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);
CREATE INDEX outbox_next_attempt ON outbox (next_attempt) WHERE failed_at IS NULL;
