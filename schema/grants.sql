-- Least privilege for a database that two roles share: one that owns the schema and migrates, one that serves.
-- Run it as the owner, in the service's database, after every `userspace migrate up`; the serving instances then run with
-- USERSPACE_MIGRATE=off. The role must exist:   CREATE ROLE userspace_app LOGIN PASSWORD '…';
-- Its name can be chosen:   psql -v app=my_role -f schema/grants.sql

\if :{?app}
\else
\set app userspace_app
\endif

REVOKE CREATE ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO :"app";
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM :"app";

GRANT SELECT ON schema_migrations TO :"app";
GRANT SELECT, INSERT, UPDATE, DELETE ON
    users, user_profiles, login_attempts, sessions, revoked_tokens, one_time_tokens, signing_keys, outbox
    TO :"app";

-- The audit log can be read and added to; nobody who takes over the service can rewrite it.
GRANT SELECT, INSERT ON audit_log TO :"app";
