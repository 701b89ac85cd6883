DROP TABLE outbox, audit_log, signing_keys, one_time_tokens, revoked_tokens, sessions, login_attempts, user_profiles, users;
DROP FUNCTION next_failures, lock_until;
DROP TYPE user_status;
