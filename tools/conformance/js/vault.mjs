// Microsoft's clients of Key Vault for JavaScript, unmodified and with their
// defaults, against the vault VAULT_URL; the vault DENIED_URL refuses the caller.
// FIXTURES is a folder with a certificate to import, as PFX and as PEM.

import assert from "node:assert/strict";
import { X509Certificate, createPrivateKey, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import path from "node:path";
import { createSecureContext } from "node:tls";
import { DefaultAzureCredential } from "@azure/identity";
import { CertificateClient } from "@azure/keyvault-certificates";
import { SecretClient } from "@azure/keyvault-secrets";
import { all, fails, run } from "./cases.mjs";

const { VAULT_URL, DENIED_URL, FIXTURES, IMPORT_PASSWORD } = process.env;
const credential = new DefaultAzureCredential();
const secrets = new SecretClient(VAULT_URL, credential);
const certificates = new CertificateClient(VAULT_URL, credential);
const fast = { intervalInMs: 10 };

const unicode = 'Zoë’s "žluťoučký kůň" 日本語 🐎\ttab\nline\\ <&>';

async function deleteSecret(name) {
  return (await secrets.beginDeleteSecret(name, fast)).pollUntilDone();
}

async function deleteCertificate(name) {
  return (await certificates.beginDeleteCertificate(name, fast)).pollUntilDone();
}

const selfSigned = { issuerName: "Self", subject: "CN=js.example", subjectAlternativeNames: { dnsNames: ["js.example", "www.js.example"] } };

async function create(name, policy = selfSigned, options = {}) {
  return (await certificates.beginCreateCertificate(name, policy, { ...fast, ...options })).pollUntilDone();
}

// pfxOf returns the linked secret of a certificate as bytes.
async function pfxOf(name) {
  const secret = await secrets.getSecret(name);
  assert.equal(secret.properties.contentType, "application/x-pkcs12");
  return Buffer.from(secret.value, "base64");
}

// plain returns a value without the fields that are undefined.
const plain = (value) => JSON.parse(JSON.stringify(value));

const fixture = (name) => readFileSync(path.join(FIXTURES, name));

await run({
  "secret set and get": async () => {
    // The client makes later times than 2038 negative.
    const expiresOn = new Date("2037-02-03T04:05:06Z");
    const notBefore = new Date("2031-02-03T04:05:06Z");
    const tags = { team: "Größe", "a b": "=&?" };
    const set = await secrets.setSecret("js-set", unicode, { contentType: "text/plain", tags, enabled: true, expiresOn, notBefore });
    const got = await secrets.getSecret("js-set");
    for (const s of [set, got]) {
      assert.equal(s.value, unicode);
      assert.equal(s.name, "js-set");
      assert.match(s.properties.version, /^[0-9a-f]{32}$/);
      assert.equal(s.properties.vaultUrl, VAULT_URL);
      assert.equal(s.properties.contentType, "text/plain");
      assert.deepEqual(s.properties.tags, tags);
      assert.equal(s.properties.enabled, true);
      assert.deepEqual(s.properties.expiresOn, expiresOn);
      assert.deepEqual(s.properties.notBefore, notBefore);
      assert.ok(s.properties.createdOn instanceof Date && s.properties.updatedOn instanceof Date);
      assert.match(s.properties.recoveryLevel, /Recoverable/);
      assert.equal(s.properties.recoverableDays, 90);
      assert.equal(s.properties.managed ?? false, false);
    }
    assert.equal((await secrets.setSecret("js-empty", "")).value, "");
  },

  "secret versions": async () => {
    const first = await secrets.setSecret("js-versions", "one");
    const second = await secrets.setSecret("js-versions", "two");
    assert.notEqual(first.properties.version, second.properties.version);
    assert.equal((await secrets.getSecret("js-versions")).value, "two");
    assert.equal((await secrets.getSecret("js-versions", { version: first.properties.version })).value, "one");
    const listed = await all(secrets.listPropertiesOfSecretVersions("js-versions"));
    assert.deepEqual(listed.map((p) => p.version).sort(), [first, second].map((s) => s.properties.version).sort());
  },

  "secret list": async () => {
    const names = Array.from({ length: 30 }, (_, i) => `js-list-${String(i).padStart(2, "0")}`);
    for (const name of names) await secrets.setSecret(name, "x", { tags: { name } });
    const listed = (await all(secrets.listPropertiesOfSecrets())).filter((p) => p.name.startsWith("js-list-"));
    assert.deepEqual(listed.map((p) => p.name).sort(), names);
    assert.ok(listed.every((p) => p.tags.name === p.name && p.version === undefined));
    const sizes = [];
    for await (const page of secrets.listPropertiesOfSecrets().byPage({ maxPageSize: 7 })) sizes.push(page.length);
    assert.ok(sizes.length > 4 && Math.max(...sizes) === 7, `pages of ${sizes}`);
  },

  "secret update": async () => {
    const set = await secrets.setSecret("js-update", "value", { tags: { old: "1" }, contentType: "text/old" });
    const expiresOn = new Date("2036-01-01T00:00:00Z");
    const updated = await secrets.updateSecretProperties("js-update", set.properties.version, { tags: { neu: "2" }, contentType: "text/new", expiresOn });
    assert.deepEqual(updated.tags, { neu: "2" });
    assert.equal(updated.contentType, "text/new");
    const got = await secrets.getSecret("js-update");
    assert.equal(got.value, "value");
    assert.equal(got.properties.version, set.properties.version);
    assert.deepEqual(got.properties.expiresOn, expiresOn);
    await secrets.updateSecretProperties("js-update", "", { tags: {} });
    assert.deepEqual((await secrets.getSecret("js-update")).properties.tags ?? {}, {});
  },

  "secret names in another case": async () => {
    await secrets.setSecret("js-Mixed-Case", "one");
    assert.equal((await secrets.getSecret("JS-MIXED-case")).value, "one");
    await secrets.setSecret("JS-mixed-CASE", "two");
    assert.equal((await all(secrets.listPropertiesOfSecretVersions("js-mixed-case"))).length, 2);
    const listed = (await all(secrets.listPropertiesOfSecrets())).filter((p) => p.name.toLowerCase() === "js-mixed-case");
    assert.equal(listed.length, 1);
  },

  "secret disabled": async () => {
    const set = await secrets.setSecret("js-disabled", "value", { enabled: false });
    assert.equal(set.properties.enabled, false);
    const err = await fails(secrets.getSecret("js-disabled"));
    assert.equal(err.statusCode, 403);
    assert.equal(err.code, "Forbidden");
    assert.match(err.message, /not allowed on a disabled secret/);
    await secrets.updateSecretProperties("js-disabled", set.properties.version, { enabled: true });
    assert.equal((await secrets.getSecret("js-disabled")).value, "value");
  },

  "secret delete, recover and purge": async () => {
    const set = await secrets.setSecret("js-deleted", "value", { tags: { a: "b" } });
    const deleted = await deleteSecret("js-deleted");
    assert.equal(deleted.name, "js-deleted");
    assert.equal(deleted.recoveryId, `${VAULT_URL}/deletedsecrets/js-deleted`);
    assert.ok(deleted.deletedOn < deleted.scheduledPurgeDate);
    assert.equal((await fails(secrets.getSecret("js-deleted"))).code, "SecretNotFound");
    assert.deepEqual((await secrets.getDeletedSecret("js-deleted")).properties.tags, { a: "b" });
    const names = (await all(secrets.listDeletedSecrets())).map((s) => s.name);
    assert.ok(names.includes("js-deleted"), `deleted are ${names}`);
    await (await secrets.beginRecoverDeletedSecret("js-deleted", fast)).pollUntilDone();
    const got = await secrets.getSecret("js-deleted");
    assert.deepEqual([got.value, got.properties.version], ["value", set.properties.version]);
    await deleteSecret("js-deleted");
    await secrets.purgeDeletedSecret("js-deleted");
    assert.equal((await fails(secrets.getDeletedSecret("js-deleted"))).statusCode, 404);
  },

  "secret backup and restore": async () => {
    await secrets.setSecret("js-backup", "one");
    await secrets.setSecret("js-backup", unicode);
    const backup = await secrets.backupSecret("js-backup");
    assert.ok(backup instanceof Uint8Array && backup.length > 0);
    assert.equal((await fails(secrets.restoreSecretBackup(backup))).statusCode, 409);
    await deleteSecret("js-backup");
    await secrets.purgeDeletedSecret("js-backup");
    assert.equal((await secrets.restoreSecretBackup(backup)).name, "js-backup");
    assert.equal((await secrets.getSecret("js-backup")).value, unicode);
    assert.equal((await all(secrets.listPropertiesOfSecretVersions("js-backup"))).length, 2);
  },

  "secret not found": async () => {
    const err = await fails(secrets.getSecret("js-none"));
    assert.deepEqual([err.name, err.statusCode, err.code], ["RestError", 404, "SecretNotFound"]);
    assert.match(err.message, /A secret with \(name\/id\) js-none was not found in this key vault/);
    const version = "0".repeat(32);
    assert.equal((await fails(secrets.getSecret("js-none", { version }))).code, "SecretNotFound");
    assert.equal((await fails(secrets.beginDeleteSecret("js-none", fast))).code, "SecretNotFound");
  },

  "secret conflict": async () => {
    await secrets.setSecret("js-conflict", "value");
    await deleteSecret("js-conflict");
    const err = await fails(secrets.setSecret("js-conflict", "other"));
    assert.deepEqual([err.statusCode, err.code], [409, "Conflict"]);
    assert.match(err.message, /deleted but recoverable state/);
    assert.equal(err.details.error.innerError.code, "ObjectIsDeletedButRecoverable");
  },

  "secret bad name": async () => {
    const err = await fails(secrets.setSecret("js_bad", "value"));
    assert.deepEqual([err.statusCode, err.code], [400, "BadParameter"]);
    assert.match(err.message, /js_bad/);
  },

  "certificate create self-signed": async () => {
    const cert = await create("js-self", selfSigned, { tags: { made: "here" } });
    assert.equal(cert.name, "js-self");
    assert.deepEqual(cert.properties.tags, { made: "here" });
    const x509 = new X509Certificate(cert.cer);
    assert.equal(x509.subject, "CN=js.example");
    assert.equal(x509.subjectAltName, "DNS:js.example, DNS:www.js.example");
    assert.ok(x509.verify(x509.publicKey), "it has not signed itself");
    assert.equal(x509.fingerprint.replaceAll(":", "").toLowerCase(), cert.properties.x509ThumbprintString.toLowerCase());
    assert.deepEqual(cert.properties.expiresOn, new Date(x509.validTo));
    const operation = (await certificates.getCertificateOperation("js-self")).getOperationState().certificateOperation;
    assert.equal(operation.status, "completed");
  },

  "certificate policy": async () => {
    const policy = {
      issuerName: "Self", subject: "CN=policy.js.example, O=Größe", contentType: "application/x-pem-file", exportable: true, enabled: true,
      keyType: "EC", keyCurveName: "P-384", keyUsage: ["digitalSignature", "keyAgreement"], reuseKey: true, validityInMonths: 7,
      enhancedKeyUsage: ["1.3.6.1.5.5.7.3.2"], lifetimeActions: [{ daysBeforeExpiry: 20, action: "EmailContacts" }],
      subjectAlternativeNames: { emails: ["a@js.example"], userPrincipalNames: ["b@js.example"], dnsNames: ["c.js.example"] },
    };
    const cert = await create("js-policy", policy);
    const got = await certificates.getCertificatePolicy("js-policy");
    for (const [name, want] of Object.entries(policy)) assert.deepEqual(plain(got[name]), want, name);
    assert.deepEqual(plain(cert.policy.lifetimeActions), policy.lifetimeActions);
    await certificates.updateCertificatePolicy("js-policy", { ...policy, validityInMonths: 11 }); // whose answer this version of the client drops
    assert.equal((await certificates.getCertificatePolicy("js-policy")).validityInMonths, 11);
    const secret = await secrets.getSecret("js-policy");
    assert.equal(secret.properties.contentType, "application/x-pem-file");
    assert.ok(createPublicKey(createPrivateKey(secret.value)).equals(new X509Certificate(secret.value.slice(secret.value.indexOf("-----BEGIN CERT"))).publicKey));
  },

  "certificate import PFX": async () => {
    const cert = await certificates.importCertificate("js-pfx", fixture("import.pfx"), { password: IMPORT_PASSWORD, tags: { from: "pfx" } });
    const want = new X509Certificate(fixture("import.pem"));
    assert.ok(want.raw.equals(Buffer.from(cert.cer)));
    assert.deepEqual(cert.properties.tags, { from: "pfx" });
    createSecureContext({ pfx: await pfxOf("js-pfx") });
    const err = await fails(certificates.importCertificate("js-pfx-wrong", fixture("import.pfx"), { password: "wrong" }));
    assert.deepEqual([err.statusCode, err.code], [400, "BadParameter"]);
  },

  "certificate import PEM": async () => {
    const cert = await certificates.importCertificate("js-pem", fixture("import.pem"), { policy: { contentType: "application/x-pem-file" } });
    const want = new X509Certificate(fixture("import.pem"));
    assert.ok(want.raw.equals(Buffer.from(cert.cer)));
    const secret = await secrets.getSecret("js-pem");
    assert.ok(want.checkPrivateKey(createPrivateKey(secret.value)));
  },

  "certificate linked secret": async () => {
    const cert = await create("js-linked");
    const secret = await secrets.getSecret("js-linked");
    assert.equal(secret.properties.id, cert.secretId);
    assert.equal(secret.properties.version, cert.properties.version);
    assert.equal(secret.properties.managed, true);
    assert.equal(secret.properties.certificateKeyId?.toString() ?? secret.properties.keyId?.toString(), cert.keyId);
    // It throws unless it has a key, and the certificate of that key.
    createSecureContext({ pfx: await pfxOf("js-linked") });
    const err = await fails(secrets.setSecret("js-linked", "value"));
    assert.equal(err.statusCode, 403);
  },

  "certificate list, versions and update": async () => {
    const first = await create("js-many");
    const second = await create("js-many");
    const versions = await all(certificates.listPropertiesOfCertificateVersions("js-many"));
    assert.deepEqual(versions.map((p) => p.version).sort(), [first, second].map((c) => c.properties.version).sort());
    assert.ok((await all(certificates.listPropertiesOfCertificates())).some((p) => p.name === "js-many"));
    const updated = await certificates.updateCertificateProperties("js-many", first.properties.version, { enabled: false, tags: { old: "yes" } });
    assert.deepEqual([updated.properties.enabled, updated.properties.tags], [false, { old: "yes" }]);
    assert.equal((await certificates.getCertificateVersion("js-many", first.properties.version)).properties.enabled, false);
    assert.equal((await certificates.getCertificate("js-many")).properties.version, second.properties.version);
  },

  "certificate operation": async () => {
    await certificates.beginCreateCertificate("js-pending", { issuerName: "Unknown", subject: "CN=pending.js.example" }, fast);
    const poller = await certificates.getCertificateOperation("js-pending", fast);
    const operation = poller.getOperationState().certificateOperation;
    assert.equal(operation.status, "inProgress");
    assert.ok(operation.csr.length > 0);
    assert.ok(!(await all(certificates.listPropertiesOfCertificates())).some((p) => p.name === "js-pending"));
    assert.ok((await all(certificates.listPropertiesOfCertificates({ includePending: true }))).some((p) => p.name === "js-pending"));
    await poller.cancelOperation();
    assert.equal((await certificates.getCertificateOperation("js-pending")).getOperationState().certificateOperation.cancellationRequested, true);
    await certificates.deleteCertificateOperation("js-pending");
    assert.equal((await fails(certificates.getCertificateOperation("js-pending"))).statusCode, 404);
  },

  "certificate delete, recover and purge": async () => {
    await create("js-gone");
    const deleted = await deleteCertificate("js-gone");
    assert.equal(deleted.recoveryId, `${VAULT_URL}/deletedcertificates/js-gone`);
    assert.ok(deleted.deletedOn < deleted.scheduledPurgeDate);
    assert.equal((await fails(certificates.getCertificate("js-gone"))).code, "CertificateNotFound");
    assert.equal((await fails(secrets.getSecret("js-gone"))).code, "SecretNotFound");
    assert.ok((await all(certificates.listDeletedCertificates())).some((c) => c.name === "js-gone"));
    await (await certificates.beginRecoverDeletedCertificate("js-gone", fast)).pollUntilDone();
    createSecureContext({ pfx: await pfxOf("js-gone") });
    await deleteCertificate("js-gone");
    await certificates.purgeDeletedCertificate("js-gone");
    assert.equal((await fails(certificates.getDeletedCertificate("js-gone"))).statusCode, 404);
  },

  "certificate backup and restore": async () => {
    const cert = await create("js-kept");
    const backup = await certificates.backupCertificate("js-kept");
    await deleteCertificate("js-kept");
    await certificates.purgeDeletedCertificate("js-kept");
    const restored = await certificates.restoreCertificateBackup(backup);
    assert.deepEqual(Buffer.from(restored.cer), Buffer.from(cert.cer));
    createSecureContext({ pfx: await pfxOf("js-kept") });
  },

  "certificate issuers": async () => {
    const administratorContacts = [{ firstName: "Zoë", lastName: "Müller", email: "zoe@js.example", phone: "1" }];
    await certificates.createIssuer("js-issuer", "Test", { accountId: "account", password: "not kept", organizationId: "org", administratorContacts, enabled: true });
    const got = await certificates.getIssuer("js-issuer");
    assert.deepEqual([got.provider, got.accountId, got.organizationId, got.enabled], ["Test", "account", "org", true]);
    assert.deepEqual(got.administratorContacts, administratorContacts);
    assert.ok((await all(certificates.listPropertiesOfIssuers())).some((i) => i.id === `${VAULT_URL}/certificates/issuers/js-issuer` && i.provider === "Test"));
    const updated = await certificates.updateIssuer("js-issuer", { administratorContacts: [{ ...administratorContacts[0], phone: "2" }] });
    assert.equal(updated.administratorContacts[0].phone, "2");
    assert.equal((await certificates.deleteIssuer("js-issuer")).provider, "Test");
    assert.equal((await fails(certificates.getIssuer("js-issuer"))).statusCode, 404);
  },

  "certificate contacts": async () => {
    const contacts = [{ email: "a@js.example", name: "Zoë", phone: "1" }, { email: "b@js.example", name: undefined, phone: undefined }];
    assert.deepEqual(await certificates.setContacts(contacts), contacts);
    assert.deepEqual(await certificates.getContacts(), contacts);
    await certificates.deleteContacts(); // whose answer this version of the client drops
    assert.equal((await fails(certificates.getContacts())).statusCode, 404);
  },

  "certificate not found": async () => {
    const err = await fails(certificates.getCertificate("js-none"));
    assert.deepEqual([err.name, err.statusCode, err.code], ["RestError", 404, "CertificateNotFound"]);
    assert.match(err.message, /A certificate with \(name\/id\) js-none was not found in this key vault/);
  },

  "certificate conflict": async () => {
    await create("js-taken");
    await deleteCertificate("js-taken");
    const err = await fails(certificates.beginCreateCertificate("js-taken", selfSigned, fast));
    assert.deepEqual([err.statusCode, err.code], [409, "Conflict"]);
    assert.match(err.message, /deleted but recoverable state/);
  },

  "denied without a role": async () => {
    const refused = [
      [() => new SecretClient(DENIED_URL, credential).getSecret("x"), /Action: 'Microsoft\.KeyVault\/vaults\/secrets\/getSecret\/action'\r\n/],
      [() => new CertificateClient(DENIED_URL, credential).getCertificate("x"), /Action: 'Microsoft\.KeyVault\/vaults\/certificates\/read'\r\n/],
    ];
    for (const [ask, action] of refused) {
      const err = await fails(ask());
      assert.deepEqual([err.name, err.statusCode, err.code], ["RestError", 403, "Forbidden"]);
      assert.match(err.message, /^Caller is not authorized to perform action on resource\.\r\n/);
      assert.match(err.message, action);
      assert.equal(err.details.error.innerError.code, "ForbiddenByRbac");
    }
  },
});
