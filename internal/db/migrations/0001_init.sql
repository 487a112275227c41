-- Times are Unix milliseconds. Identifiers are made in Go and sort by creation.
-- sort_key columns hold latchkey.SortKey of the name beside them, as login_key does of
-- the login; search_key columns latchkey.SearchKey of what a search looks at. JSON is
-- text that is never queried. deleted_at marks what is deleted but recoverable.

-- What the installation is: tenant id and default subscription.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The service's own secrets, sealed by the master key: the CA's key, the key
-- that agents pin, the check that the master key is the right one.
CREATE TABLE sealed_settings (
    name  TEXT PRIMARY KEY,
    box   BYTEA NOT NULL
);

-- The master keys that anything may be sealed with, by their ids. The key itself
-- is never here. The one that seals is the one to seal with.
CREATE TABLE master_keys (
    id         TEXT PRIMARY KEY,
    seals      BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX master_keys_seals ON master_keys (seals) WHERE seals;

CREATE TABLE principals (
    id           TEXT PRIMARY KEY,
    kind         TEXT NOT NULL CHECK (kind IN ('user', 'service-principal', 'group', 'machine')),
    name         TEXT NOT NULL,
    sort_key     TEXT NOT NULL,
    search_key   TEXT NOT NULL,
    tenant_admin BOOLEAN NOT NULL DEFAULT FALSE,
    disabled_at  BIGINT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    deleted_at   BIGINT
);

CREATE INDEX principals_list ON principals (sort_key, id) WHERE deleted_at IS NULL;

CREATE TABLE users (
    id            TEXT PRIMARY KEY REFERENCES principals (id),
    login         TEXT NOT NULL,
    login_key     TEXT NOT NULL,
    password_hash TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX users_login ON users (login);
CREATE INDEX users_login_key ON users (login_key);

-- Programs that sign in by themselves. Ids of clients are in lower case. name_key is
-- NULL when the principal is deleted: its name is free then.
CREATE TABLE service_principals (
    id          TEXT PRIMARY KEY REFERENCES principals (id),
    client_id   TEXT NOT NULL,
    name_key    TEXT,
    description TEXT NOT NULL
);
CREATE UNIQUE INDEX service_principals_client ON service_principals (client_id);
CREATE UNIQUE INDEX service_principals_name ON service_principals (name_key);

-- How they prove themselves: by a secret, of which there is the hash, by the key of
-- a certificate, which is here in DER, or by the tokens of another issuer.
CREATE TABLE service_principal_credentials (
    id           TEXT PRIMARY KEY,
    principal_id TEXT NOT NULL REFERENCES service_principals (id),
    kind         TEXT NOT NULL CHECK (kind IN ('secret', 'certificate', 'federated')),
    name         TEXT NOT NULL,
    hash         BYTEA,
    certificate  BYTEA,
    issuer       TEXT NOT NULL DEFAULT '',
    subject      TEXT NOT NULL DEFAULT '',
    audience     TEXT NOT NULL DEFAULT '',
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    CHECK ((kind = 'secret') = (hash IS NOT NULL) AND (kind = 'certificate') = (certificate IS NOT NULL))
);
CREATE INDEX service_principal_credentials_principal ON service_principal_credentials (principal_id, id);

-- Ids of the assertions that service principals have signed in with, by their
-- hashes, until they expire: each works once, at any server.
CREATE TABLE used_assertions (
    principal_id TEXT NOT NULL REFERENCES service_principals (id),
    hash         BYTEA NOT NULL,
    expires_at   BIGINT NOT NULL,
    PRIMARY KEY (principal_id, hash)
);
CREATE INDEX used_assertions_expires ON used_assertions (expires_at);

-- Wrong passwords in a row, and wrong proofs of service principals, whose login is
-- "sp:" and the client id. A login that no account has is counted too, so that being
-- made to wait does not tell which ones exist. What cannot be a login has one row
-- together, and so have client ids that no service principal has.
CREATE TABLE sign_in_failures (
    login    TEXT PRIMARY KEY,
    failures BIGINT NOT NULL,
    retry_at BIGINT NOT NULL,
    last_at  BIGINT NOT NULL
);
CREATE INDEX sign_in_failures_last ON sign_in_failures (last_at);

CREATE TABLE external_identities (
    issuer       TEXT NOT NULL,
    tenant       TEXT NOT NULL,
    object_id    TEXT NOT NULL,
    principal_id TEXT NOT NULL REFERENCES principals (id),
    PRIMARY KEY (issuer, tenant, object_id)
);
CREATE INDEX external_identities_principal ON external_identities (principal_id);

-- Tenants of Azure whose vaults are read. Ids are in lower case.
CREATE TABLE azure_tenants (
    id        TEXT PRIMARY KEY,
    linked_by TEXT NOT NULL REFERENCES principals (id),
    linked_at BIGINT NOT NULL
);

-- What groups have besides other principals. No two have the same name.
CREATE UNIQUE INDEX principals_group ON principals (sort_key) WHERE kind = 'group' AND deleted_at IS NULL;
CREATE TABLE principal_groups (
    id          TEXT PRIMARY KEY REFERENCES principals (id),
    description TEXT NOT NULL DEFAULT ''
);

CREATE TABLE group_members (
    group_id  TEXT NOT NULL REFERENCES principals (id),
    member_id TEXT NOT NULL REFERENCES principals (id),
    PRIMARY KEY (group_id, member_id)
);
CREATE INDEX group_members_member ON group_members (member_id);

-- API tokens, browser sessions and one-time sign-in links, told apart by kind.
-- proof_id is the credential that a service principal signed in with, or ''.
CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    kind         TEXT NOT NULL CHECK (kind IN ('api', 'session', 'link')),
    principal_id TEXT NOT NULL REFERENCES principals (id),
    name         TEXT NOT NULL,
    hash         BYTEA NOT NULL,
    proof_id     TEXT NOT NULL DEFAULT '',
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);
CREATE UNIQUE INDEX tokens_hash ON tokens (hash);
CREATE INDEX tokens_principal ON tokens (principal_id, id);
CREATE INDEX tokens_expires ON tokens (expires_at);

-- Every change of what a release is decided on bumps authz_epoch: of a grant, a
-- membership or an account, and of the things of the chain themselves.
CREATE TABLE environments (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    display_name TEXT NOT NULL,
    search_key   TEXT NOT NULL,
    prefix       TEXT NOT NULL,
    vaults       TEXT NOT NULL,
    remove_variable_grants BOOLEAN NOT NULL DEFAULT FALSE,
    authz_epoch  BIGINT NOT NULL DEFAULT 0,
    created_by   TEXT NOT NULL REFERENCES principals (id),
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    deleted_at   BIGINT
);
CREATE UNIQUE INDEX environments_name ON environments (name) WHERE deleted_at IS NULL;

CREATE TABLE environment_members (
    environment_id TEXT NOT NULL REFERENCES environments (id),
    principal_id   TEXT NOT NULL REFERENCES principals (id),
    role           TEXT NOT NULL CHECK (role IN ('admin', 'maker', 'user', 'auditor')),
    created_by     TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (environment_id, principal_id)
);
CREATE INDEX environment_members_principal ON environment_members (principal_id);

-- Roles of principals on things. via is the credential by whose share to the
-- principal a grant on a variable was made, '' for a grant of its own; it stays when
-- the share is removed and the grant is not. sort_key is the thing's.
CREATE TABLE grants (
    id             TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    subject_kind   TEXT NOT NULL,
    subject_id     TEXT NOT NULL,
    sort_key       TEXT NOT NULL,
    principal_id   TEXT NOT NULL REFERENCES principals (id),
    role           TEXT NOT NULL CHECK (role IN ('owner', 'co-owner', 'user-share', 'user')),
    via            TEXT NOT NULL DEFAULT '',
    created_by     TEXT NOT NULL,
    created_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX grants_subject ON grants (subject_id, principal_id, via);
CREATE INDEX grants_principal ON grants (principal_id, subject_kind, environment_id, sort_key, subject_id);
CREATE UNIQUE INDEX grants_owner ON grants (subject_id) WHERE role = 'owner';
CREATE INDEX grants_via ON grants (via, principal_id) WHERE via <> '';

-- What principals are told, until they put it away.
CREATE TABLE notices (
    id             TEXT PRIMARY KEY,
    principal_id   TEXT NOT NULL REFERENCES principals (id),
    environment_id TEXT NOT NULL DEFAULT '',
    subject_kind   TEXT NOT NULL,
    subject_id     TEXT NOT NULL,
    subject_name   TEXT NOT NULL,
    message        TEXT NOT NULL,
    created_at     BIGINT NOT NULL
);
CREATE INDEX notices_principal ON notices (principal_id, id);
CREATE INDEX notices_created ON notices (created_at);

CREATE TABLE variables (
    id             TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    name           TEXT NOT NULL,
    name_key       TEXT NOT NULL,
    display_name   TEXT NOT NULL,
    sort_key       TEXT NOT NULL,
    search_key     TEXT NOT NULL,
    description    TEXT NOT NULL,
    type           TEXT NOT NULL CHECK (type IN ('text', 'number', 'boolean', 'json', 'secret')),
    default_value  TEXT,
    current_value  TEXT,
    created_by     TEXT NOT NULL REFERENCES principals (id),
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    deleted_at     BIGINT,
    deleted_by     TEXT NOT NULL DEFAULT '',
    purged_at      BIGINT
);
CREATE INDEX variables_deleted ON variables (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE UNIQUE INDEX variables_name ON variables (environment_id, name_key) WHERE deleted_at IS NULL;
CREATE INDEX variables_list ON variables (environment_id, sort_key, id) WHERE deleted_at IS NULL;
CREATE INDEX variables_modified ON variables (environment_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX variables_type ON variables (environment_id, type, sort_key, id) WHERE deleted_at IS NULL;

-- References that a secret variable has had. The one with newest is the one last
-- saved; the one with in_force is what releases read. Rows are not reused: an
-- edit makes a new row, whose check starts anew.
CREATE TABLE secret_references (
    id              TEXT PRIMARY KEY,
    variable_id     TEXT NOT NULL REFERENCES variables (id),
    subscription_id TEXT NOT NULL,
    resource_group  TEXT NOT NULL,
    vault           TEXT NOT NULL,
    secret          TEXT NOT NULL,
    reference_key   TEXT NOT NULL,
    saved_by        TEXT NOT NULL REFERENCES principals (id),
    saved_at        BIGINT NOT NULL,
    newest          BOOLEAN NOT NULL,
    in_force        BOOLEAN NOT NULL DEFAULT FALSE,
    check_state     TEXT NOT NULL CHECK (check_state IN ('checking', 'passed', 'failed', 'unknown')),
    check_message   TEXT NOT NULL DEFAULT '',
    check_identity  TEXT NOT NULL DEFAULT '',
    check_name      TEXT NOT NULL DEFAULT '',
    check_remedy    TEXT NOT NULL DEFAULT '',
    checked_at      BIGINT,
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_check_at   BIGINT,
    check_token     TEXT NOT NULL DEFAULT '',
    check_results   TEXT NOT NULL DEFAULT '[]',
    overridden_by   TEXT NOT NULL DEFAULT '',
    overridden_at   BIGINT
);
CREATE UNIQUE INDEX secret_references_newest ON secret_references (variable_id) WHERE newest;
CREATE UNIQUE INDEX secret_references_in_force ON secret_references (variable_id) WHERE in_force;
CREATE INDEX secret_references_variable ON secret_references (variable_id);
CREATE INDEX secret_references_due ON secret_references (next_check_at) WHERE next_check_at IS NOT NULL;
CREATE INDEX secret_references_trouble ON secret_references (check_state) WHERE newest AND check_state IN ('failed', 'unknown');
CREATE INDEX secret_references_key ON secret_references (reference_key);
CREATE INDEX secret_references_vault ON secret_references (lower(vault), lower(secret)) WHERE newest OR in_force;

CREATE TABLE credentials (
    id               TEXT PRIMARY KEY,
    environment_id   TEXT NOT NULL REFERENCES environments (id),
    name             TEXT NOT NULL,
    sort_key         TEXT NOT NULL,
    search_key       TEXT NOT NULL,
    description      TEXT NOT NULL,
    store            TEXT NOT NULL,
    usages           TEXT NOT NULL,
    authentication   TEXT NOT NULL,
    exposure         TEXT NOT NULL,
    allow_shared_uid BOOLEAN NOT NULL,
    machines         TEXT NOT NULL,
    created_by       TEXT NOT NULL REFERENCES principals (id),
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    deleted_at       BIGINT,
    deleted_by       TEXT NOT NULL DEFAULT '',
    purged_at        BIGINT
);
CREATE INDEX credentials_deleted ON credentials (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE UNIQUE INDEX credentials_name ON credentials (environment_id, created_by, sort_key) WHERE deleted_at IS NULL;
CREATE INDEX credentials_list ON credentials (environment_id, sort_key, id) WHERE deleted_at IS NULL;
CREATE INDEX credentials_modified ON credentials (environment_id, updated_at, id) WHERE deleted_at IS NULL;

CREATE TABLE credential_slots (
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    slot          TEXT NOT NULL,
    variable_id   TEXT NOT NULL REFERENCES variables (id),
    PRIMARY KEY (credential_id, slot)
);
CREATE INDEX credential_slots_variable ON credential_slots (variable_id);

-- What was found about the certificates of credentials: of a certificate only what
-- is public. version is the vault's id of the one that was looked at.
CREATE TABLE certificate_checks (
    credential_id TEXT PRIMARY KEY REFERENCES credentials (id),
    state         TEXT NOT NULL CHECK (state IN ('checking', 'passed', 'failed', 'unknown')),
    result        TEXT NOT NULL,
    version       TEXT NOT NULL DEFAULT '',
    expires_at    BIGINT,
    checked_at    BIGINT,
    next_check_at BIGINT,
    attempts      BIGINT NOT NULL DEFAULT 0,
    check_token   TEXT NOT NULL DEFAULT ''
);
CREATE INDEX certificate_checks_due ON certificate_checks (next_check_at) WHERE next_check_at IS NOT NULL;

-- What the tenant's directory says of users who sign in with certificates. upn_key is
-- the user principal name in lower case.
CREATE TABLE certificate_accounts (
    upn_key         TEXT PRIMARY KEY,
    upn             TEXT NOT NULL,
    on_premises_upn TEXT NOT NULL,
    updated_by      TEXT NOT NULL REFERENCES principals (id),
    updated_at      BIGINT NOT NULL
);

-- Their certificateUserIds: each is one user's.
CREATE TABLE certificate_user_ids (
    user_id  TEXT PRIMARY KEY,
    upn_key  TEXT NOT NULL REFERENCES certificate_accounts (upn_key),
    position BIGINT NOT NULL
);
CREATE INDEX certificate_user_ids_account ON certificate_user_ids (upn_key, position);

-- A machine is also a principal with the same id.
CREATE TABLE machines (
    id                TEXT PRIMARY KEY REFERENCES principals (id),
    environment_id    TEXT NOT NULL REFERENCES environments (id),
    name              TEXT NOT NULL,
    sort_key          TEXT NOT NULL,
    search_key        TEXT NOT NULL,
    description       TEXT NOT NULL DEFAULT '',
    sign_key          BYTEA NOT NULL,
    seal_key          BYTEA NOT NULL,
    os                TEXT NOT NULL,
    agent_version     TEXT NOT NULL,
    shared_uid        BOOLEAN NOT NULL,
    policy            TEXT NOT NULL,
    session_counter   BIGINT NOT NULL DEFAULT 0,
    disabled_at       BIGINT,
    quarantined_at    BIGINT,
    quarantine_reason TEXT NOT NULL DEFAULT '',
    last_seen_at      BIGINT,
    enrolled_by       TEXT NOT NULL REFERENCES principals (id),
    created_at        BIGINT NOT NULL,
    updated_at        BIGINT NOT NULL,
    deleted_at        BIGINT,
    deleted_by        TEXT NOT NULL DEFAULT '',
    purged_at         BIGINT
);
CREATE INDEX machines_deleted ON machines (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE UNIQUE INDEX machines_name ON machines (environment_id, sort_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX machines_key ON machines (sign_key);

-- machine_id is the machine that the token enrols anew, '' for a new one.
CREATE TABLE enrolment_tokens (
    id             TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    machine_id     TEXT NOT NULL DEFAULT '',
    hash           BYTEA NOT NULL,
    uses_left      BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    created_by     TEXT NOT NULL REFERENCES principals (id),
    created_at     BIGINT NOT NULL,
    revoked_at     BIGINT
);
CREATE UNIQUE INDEX enrolment_tokens_hash ON enrolment_tokens (hash);

-- At most one session of a machine is not replaced. The secret is sealed.
CREATE TABLE machine_sessions (
    id              TEXT PRIMARY KEY,
    machine_id      TEXT NOT NULL REFERENCES machines (id),
    secret          BYTEA NOT NULL,
    release_counter BIGINT NOT NULL DEFAULT 0,
    release_nonce   BYTEA,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL,
    replaced_at     BIGINT
);
CREATE INDEX machine_sessions_machine ON machine_sessions (machine_id);
CREATE INDEX machine_sessions_expires ON machine_sessions (expires_at);
CREATE UNIQUE INDEX machine_sessions_live ON machine_sessions (machine_id) WHERE replaced_at IS NULL;

-- target_kind is machine, or later group.
CREATE TABLE connections (
    id             TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    name           TEXT NOT NULL,
    sort_key       TEXT NOT NULL,
    search_key     TEXT NOT NULL,
    target_kind    TEXT NOT NULL CHECK (target_kind IN ('machine', 'group')),
    target_id      TEXT NOT NULL,
    driver         TEXT NOT NULL,
    ssh_server     TEXT NOT NULL DEFAULT '',
    credential_id  TEXT NOT NULL REFERENCES credentials (id),
    owner_id       TEXT NOT NULL REFERENCES principals (id),
    created_by     TEXT NOT NULL REFERENCES principals (id),
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    deleted_at     BIGINT,
    deleted_by     TEXT NOT NULL DEFAULT '',
    purged_at      BIGINT
);
CREATE INDEX connections_deleted ON connections (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE UNIQUE INDEX connections_name ON connections (environment_id, created_by, sort_key) WHERE deleted_at IS NULL;
CREATE INDEX connections_list ON connections (environment_id, sort_key, id) WHERE deleted_at IS NULL;
CREATE INDEX connections_modified ON connections (environment_id, updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX connections_credential ON connections (credential_id);
CREATE INDEX connections_target ON connections (target_id);

-- How often in a row a target refused a credential, since it last let it in.
-- version is the vault's id of the secret that was refused last.
CREATE TABLE sign_in_refusals (
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    machine_id    TEXT NOT NULL REFERENCES machines (id),
    ssh_server    TEXT NOT NULL,
    version       TEXT NOT NULL,
    refusals      BIGINT NOT NULL,
    last_at       BIGINT NOT NULL,
    forced_at     BIGINT,
    PRIMARY KEY (credential_id, machine_id, ssh_server)
);

CREATE TABLE flows (
    id             TEXT PRIMARY KEY,
    environment_id TEXT NOT NULL REFERENCES environments (id),
    name           TEXT NOT NULL,
    sort_key       TEXT NOT NULL,
    search_key     TEXT NOT NULL,
    description    TEXT NOT NULL,
    revision       BIGINT NOT NULL,
    created_by     TEXT NOT NULL REFERENCES principals (id),
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    deleted_at     BIGINT,
    deleted_by     TEXT NOT NULL DEFAULT '',
    purged_at      BIGINT
);
CREATE INDEX flows_deleted ON flows (deleted_at) WHERE deleted_at IS NOT NULL AND purged_at IS NULL;
CREATE UNIQUE INDEX flows_name ON flows (environment_id, created_by, sort_key) WHERE deleted_at IS NULL;
CREATE INDEX flows_list ON flows (environment_id, sort_key, id) WHERE deleted_at IS NULL;
CREATE INDEX flows_modified ON flows (environment_id, updated_at, id) WHERE deleted_at IS NULL;

-- Revisions are only ever added.
CREATE TABLE flow_revisions (
    flow_id     TEXT NOT NULL REFERENCES flows (id),
    revision    BIGINT NOT NULL,
    command     TEXT NOT NULL,
    timeout_ms  BIGINT NOT NULL,
    handover    TEXT NOT NULL,
    credentials TEXT NOT NULL,
    created_by  TEXT NOT NULL REFERENCES principals (id),
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (flow_id, revision)
);

-- The credentials that the newest revision of each flow lists.
CREATE TABLE flow_credentials (
    flow_id       TEXT NOT NULL REFERENCES flows (id),
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    PRIMARY KEY (flow_id, credential_id)
);
CREATE INDEX flow_credentials_credential ON flow_credentials (credential_id);

CREATE TABLE runs (
    id               TEXT PRIMARY KEY,
    environment_id   TEXT NOT NULL REFERENCES environments (id),
    kind             TEXT NOT NULL CHECK (kind IN ('flow', 'test')),
    flow_id          TEXT REFERENCES flows (id),
    revision         BIGINT,
    connection_id    TEXT NOT NULL REFERENCES connections (id),
    machine_id       TEXT NOT NULL REFERENCES machines (id),
    owner_id         TEXT NOT NULL REFERENCES principals (id),
    started_by       TEXT NOT NULL REFERENCES principals (id),
    inputs           TEXT NOT NULL,
    forced           BOOLEAN NOT NULL DEFAULT FALSE,
    state            TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'timed-out')),
    error_code       TEXT NOT NULL DEFAULT '',
    error_message    TEXT NOT NULL DEFAULT '',
    exit_code        BIGINT,
    claim_id         TEXT NOT NULL DEFAULT '',
    start_attempt    TEXT NOT NULL DEFAULT '',
    releases         BIGINT NOT NULL DEFAULT 0,
    queued_at        BIGINT NOT NULL,
    claimed_at       BIGINT,
    started_at       BIGINT,
    finished_at      BIGINT,
    lease_expires_at BIGINT,
    cancel_asked_at  BIGINT,
    log_bytes        BIGINT NOT NULL DEFAULT 0,
    log_truncated    BOOLEAN NOT NULL DEFAULT FALSE,
    log_chunks       BIGINT NOT NULL DEFAULT 0,
    FOREIGN KEY (flow_id, revision) REFERENCES flow_revisions (flow_id, revision),
    CHECK ((kind = 'flow') = (flow_id IS NOT NULL) AND (kind = 'flow') = (revision IS NOT NULL))
);
-- Lists are of one kind. Of indexes that seem alike SQLite, which has no statistics,
-- takes the one that was made last: runs_state, of which most runs may be, is first.
CREATE INDEX runs_state ON runs (environment_id, kind, state, id);
CREATE INDEX runs_list ON runs (environment_id, kind, id);
CREATE INDEX runs_owner ON runs (owner_id, environment_id, kind, id);
CREATE INDEX runs_starter ON runs (started_by, environment_id, kind, id);
CREATE INDEX runs_machine ON runs (machine_id, environment_id, kind, id);
CREATE INDEX runs_flow ON runs (flow_id, environment_id, kind, id);
CREATE INDEX runs_connection ON runs (connection_id, environment_id, kind, id);
-- In the order of queued_at, since PostgreSQL would go by id through all that have
-- ended.
CREATE INDEX runs_queue ON runs (machine_id, queued_at, id) WHERE state = 'queued';
CREATE INDEX runs_running ON runs (machine_id, id) WHERE state = 'running';
CREATE INDEX runs_leases ON runs (lease_expires_at) WHERE state = 'running';
CREATE INDEX runs_waiting ON runs (kind, queued_at) WHERE state = 'queued';
CREATE INDEX runs_tests ON runs (connection_id, id) WHERE kind = 'test';

CREATE TABLE sign_in_tries (
    run_id        TEXT PRIMARY KEY REFERENCES runs (id),
    credential_id TEXT NOT NULL REFERENCES credentials (id),
    machine_id    TEXT NOT NULL REFERENCES machines (id),
    ssh_server    TEXT NOT NULL,
    version       TEXT NOT NULL,
    begun_at      BIGINT NOT NULL
);
CREATE INDEX sign_in_tries_target ON sign_in_tries (credential_id, machine_id, ssh_server);

CREATE TABLE run_logs (
    run_id     TEXT NOT NULL REFERENCES runs (id),
    log_offset BIGINT NOT NULL,
    stream     TEXT NOT NULL,
    body       TEXT NOT NULL,
    at         BIGINT NOT NULL,
    PRIMARY KEY (run_id, log_offset)
);

-- Every change of a vault's secrets bumps revision; one of who may read them bumps
-- access_revision as well.
CREATE TABLE vaults (
    id              TEXT PRIMARY KEY,
    name            TEXT NOT NULL,
    name_key        TEXT NOT NULL,
    subscription_id TEXT NOT NULL,
    resource_group  TEXT NOT NULL,
    reference_key   TEXT NOT NULL,
    retention_days  BIGINT NOT NULL,
    revision        BIGINT NOT NULL DEFAULT 0,
    access_revision BIGINT NOT NULL DEFAULT 0,
    created_by      TEXT NOT NULL REFERENCES principals (id),
    created_at      BIGINT NOT NULL,
    deleted_at      BIGINT
);
CREATE UNIQUE INDEX vaults_name ON vaults (name_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX vaults_reference ON vaults (reference_key) WHERE deleted_at IS NULL;

-- A secret of an embedded vault. Deleted ones keep their versions until purge_at.
-- A managed one belongs to the certificate of the same name, whose versions are
-- its, and goes with it.
CREATE TABLE vault_secrets (
    vault_id   TEXT NOT NULL REFERENCES vaults (id),
    name_key   TEXT NOT NULL,
    name       TEXT NOT NULL,
    managed    BOOLEAN NOT NULL DEFAULT FALSE,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    purge_at   BIGINT,
    PRIMARY KEY (vault_id, name_key)
);
CREATE INDEX vault_secrets_purge ON vault_secrets (purge_at) WHERE purge_at IS NOT NULL AND NOT managed;

-- The value is sealed, bound to vault, name and version. number orders versions.
CREATE TABLE vault_secret_versions (
    vault_id     TEXT NOT NULL,
    name_key     TEXT NOT NULL,
    number       BIGINT NOT NULL,
    version      TEXT NOT NULL,
    value        BYTEA NOT NULL,
    content_type TEXT NOT NULL,
    enabled      BOOLEAN NOT NULL,
    not_before   BIGINT,
    expires_at   BIGINT,
    tags         TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (vault_id, name_key, number),
    FOREIGN KEY (vault_id, name_key) REFERENCES vault_secrets (vault_id, name_key)
);
CREATE UNIQUE INDEX vault_secret_versions_version ON vault_secret_versions (vault_id, name_key, version);
CREATE INDEX vault_secret_versions_expires ON vault_secret_versions (expires_at) WHERE expires_at IS NOT NULL;

-- A certificate of an embedded vault. Without versions it is one that is pending
-- for the first time. due_at is when its policy next wants something done.
CREATE TABLE vault_certificates (
    vault_id   TEXT NOT NULL REFERENCES vaults (id),
    name_key   TEXT NOT NULL,
    name       TEXT NOT NULL,
    policy     TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    due_at     BIGINT,
    deleted_at BIGINT,
    purge_at   BIGINT,
    PRIMARY KEY (vault_id, name_key)
);
CREATE INDEX vault_certificates_due ON vault_certificates (due_at) WHERE due_at IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX vault_certificates_purge ON vault_certificates (purge_at) WHERE purge_at IS NOT NULL;

-- The private key of a version, issued or pending. It is sealed, bound to vault,
-- name and version.
CREATE TABLE vault_certificate_keys (
    vault_id    TEXT NOT NULL,
    name_key    TEXT NOT NULL,
    version     TEXT NOT NULL,
    private_key BYTEA NOT NULL,
    exportable  BOOLEAN NOT NULL,
    PRIMARY KEY (vault_id, name_key, version),
    FOREIGN KEY (vault_id, name_key) REFERENCES vault_certificates (vault_id, name_key)
);

-- leaf and chain are certificates in DER; chain is the others, one after the
-- other.
CREATE TABLE vault_certificate_versions (
    vault_id       TEXT NOT NULL,
    name_key       TEXT NOT NULL,
    number         BIGINT NOT NULL,
    version        TEXT NOT NULL,
    leaf           BYTEA NOT NULL,
    chain          BYTEA NOT NULL,
    enabled        BOOLEAN NOT NULL,
    not_before     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    tags           TEXT NOT NULL,
    preserve_order BOOLEAN NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    PRIMARY KEY (vault_id, name_key, number),
    FOREIGN KEY (vault_id, name_key) REFERENCES vault_certificates (vault_id, name_key)
);
CREATE UNIQUE INDEX vault_certificate_versions_version ON vault_certificate_versions (vault_id, name_key, version);

-- The last request for a version of a certificate, with what it asked for.
CREATE TABLE vault_certificate_operations (
    vault_id       TEXT NOT NULL,
    name_key       TEXT NOT NULL,
    version        TEXT NOT NULL,
    request_id     TEXT NOT NULL,
    issuer         TEXT NOT NULL,
    csr            BYTEA NOT NULL,
    completed      BOOLEAN NOT NULL,
    cancelled      BOOLEAN NOT NULL,
    enabled        BOOLEAN NOT NULL,
    tags           TEXT NOT NULL,
    preserve_order BOOLEAN NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (vault_id, name_key),
    FOREIGN KEY (vault_id, name_key) REFERENCES vault_certificates (vault_id, name_key)
);

-- Issuers of certificates that a vault keeps for its clients. The password of the
-- account is sealed, bound to vault and name.
CREATE TABLE vault_issuers (
    vault_id     TEXT NOT NULL REFERENCES vaults (id),
    name_key     TEXT NOT NULL,
    name         TEXT NOT NULL,
    provider     TEXT NOT NULL,
    account      TEXT NOT NULL,
    password     BYTEA NOT NULL,
    organization TEXT NOT NULL,
    enabled      BOOLEAN NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (vault_id, name_key)
);

-- Who is told about a vault's certificates.
CREATE TABLE vault_contacts (
    vault_id TEXT PRIMARY KEY REFERENCES vaults (id),
    contacts TEXT NOT NULL
);

-- collection and object_key are '' for the whole vault.
CREATE TABLE vault_role_assignments (
    id           TEXT PRIMARY KEY,
    vault_id     TEXT NOT NULL REFERENCES vaults (id),
    collection   TEXT NOT NULL CHECK (collection IN ('', 'secrets', 'certificates', 'keys')),
    object_key   TEXT NOT NULL,
    object       TEXT NOT NULL,
    principal_id TEXT NOT NULL REFERENCES principals (id),
    role         TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL
);
CREATE UNIQUE INDEX vault_role_assignments_once ON vault_role_assignments (vault_id, collection, object_key, principal_id, role);
CREATE INDEX vault_role_assignments_principal ON vault_role_assignments (principal_id, vault_id);

-- The audit log. Nothing deletes its rows, and nothing updates them but the
-- renumbering of positions after a restore. The order of (position, id) is that
-- in which rows became visible; see docs/decisions/008-order-of-the-audit-log.md.
-- What no filter asks for is in entry. The indexes are few, since every release
-- writes to each of them: entries about a credential are found by credential_id.
CREATE TABLE audit (
    id             TEXT PRIMARY KEY,
    position       BIGINT NOT NULL,
    at             BIGINT NOT NULL,
    environment_id TEXT NOT NULL,
    action         TEXT NOT NULL,
    outcome        TEXT NOT NULL CHECK (outcome IN ('ok', 'denied', 'failed')),
    actor_id       TEXT NOT NULL,
    subject_id     TEXT NOT NULL,
    run_id         TEXT NOT NULL,
    machine_id     TEXT NOT NULL,
    credential_id  TEXT NOT NULL,
    entry          TEXT NOT NULL
);
CREATE INDEX audit_position ON audit (position, id);
CREATE INDEX audit_environment ON audit (environment_id, id);
CREATE INDEX audit_run ON audit (run_id, id) WHERE run_id <> '';
CREATE INDEX audit_credential ON audit (credential_id, id) WHERE credential_id <> '';
CREATE INDEX audit_subject ON audit (subject_id, id) WHERE credential_id = '';
CREATE INDEX audit_action ON audit (action, id) WHERE substr(action, 1, 8) <> 'release.';
CREATE INDEX audit_actor ON audit (actor_id, id) WHERE substr(action, 1, 8) <> 'release.';
CREATE INDEX audit_outcome ON audit (outcome, id) WHERE outcome <> 'ok';
