// Microsoft's credentials of service principals for JavaScript, unmodified, with
// the variables that latchkey vault env --as-service-principal sets. They read the
// secret "known" of the vault VAULT_URL, in which the principal may read secrets.
// FIXTURES is a folder with the principal's certificate.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import path from "node:path";
import { ClientAssertionCredential, ClientCertificateCredential, ClientSecretCredential, DefaultAzureCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";
import { fails, run } from "./cases.mjs";

const { VAULT_URL, FIXTURES, AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET } = process.env;
const certificatePath = path.join(FIXTURES, "client.pem");
const vaultScope = "https://vault.azure.net/.default";
const scopes = [vaultScope, `https://${new URL(VAULT_URL).hostname.replace(/^[^.]*\./, "")}/.default`, "https://management.azure.com/.default"];

async function reads(credential) {
  assert.equal((await new SecretClient(VAULT_URL, credential).getSecret("known")).value, "a value");
}

async function refused(credential, scope, text) {
  const err = await fails(credential.getToken(scope));
  assert.ok(err.message.includes(text), err.message);
}

await run({
  "sign in by default": () => reads(new DefaultAzureCredential()),
  "sign in with a secret": () => reads(new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET)),
  "sign in with a certificate": () => reads(new ClientCertificateCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, certificatePath)),

  "sign in for several scopes": async () => {
    for (const credential of [
      new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET),
      new ClientCertificateCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, certificatePath),
    ]) {
      for (const scope of scopes) assert.ok((await credential.getToken(scope)).expiresOnTimestamp > Date.now());
    }
  },

  "sign in, wrong secret": () => refused(new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, "wrong"), vaultScope, "AADSTS7000215"),
  "sign in, wrong tenant": () => refused(new ClientSecretCredential("5c1a3e0e-7d2b-4b8f-9a59-9d0d6a1c2f33", AZURE_CLIENT_ID, AZURE_CLIENT_SECRET), vaultScope, "endpoints_resolution_error"),
  "sign in, wrong scope": () =>
    refused(new ClientSecretCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_SECRET), "https://graph.microsoft.com/.default", "AADSTS500011"),
  "sign in, wrong assertion": () =>
    refused(new ClientAssertionCredential(AZURE_TENANT_ID, AZURE_CLIENT_ID, async () => readFileSync(certificatePath, "latin1").slice(0, 20)), vaultScope, "AADSTS700027"),
});
