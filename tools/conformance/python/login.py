"""Microsoft's credentials of service principals for Python, unmodified, with the
variables that latchkey vault env --as-service-principal sets. They read the secret
"known" of the vault VAULT_URL, in which the principal may read secrets. FIXTURES is
a folder with the principal's certificate."""

import os
import time
from urllib.parse import urlparse

from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CertificateCredential, ClientAssertionCredential, ClientSecretCredential, DefaultAzureCredential
from azure.keyvault.secrets import SecretClient

from cases import case, equal, fails, run

VAULT_URL = os.environ["VAULT_URL"]
TENANT = os.environ["AZURE_TENANT_ID"]
CLIENT = os.environ["AZURE_CLIENT_ID"]
SECRET = os.environ["AZURE_CLIENT_SECRET"]
CERTIFICATE = os.path.join(os.environ["FIXTURES"], "client.pem")
VAULT_SCOPE = "https://vault.azure.net/.default"
SCOPES = [VAULT_SCOPE, f"https://{urlparse(VAULT_URL).hostname.partition('.')[2]}/.default", "https://management.azure.com/.default"]


def reads(credential):
    equal(SecretClient(VAULT_URL, credential).get_secret("known").value, "a value")


def refused(credential, scope, text):
    err = fails(ClientAuthenticationError, credential.get_token, scope)
    assert text in err.message, err.message


@case("sign in by default")
def _():
    reads(DefaultAzureCredential())


@case("sign in with a secret")
def _():
    reads(ClientSecretCredential(TENANT, CLIENT, SECRET))


@case("sign in with a certificate")
def _():
    reads(CertificateCredential(TENANT, CLIENT, CERTIFICATE))


@case("sign in for several scopes")
def _():
    for credential in [ClientSecretCredential(TENANT, CLIENT, SECRET), CertificateCredential(TENANT, CLIENT, CERTIFICATE)]:
        for scope in SCOPES:
            assert credential.get_token(scope).expires_on > time.time()


@case("sign in, wrong secret")
def _():
    refused(ClientSecretCredential(TENANT, CLIENT, "wrong"), VAULT_SCOPE, "AADSTS7000215")


@case("sign in, wrong tenant")
def _():
    refused(ClientSecretCredential("5c1a3e0e-7d2b-4b8f-9a59-9d0d6a1c2f33", CLIENT, SECRET), VAULT_SCOPE, "5c1a3e0e")


@case("sign in, wrong scope")
def _():
    refused(ClientSecretCredential(TENANT, CLIENT, SECRET), "https://graph.microsoft.com/.default", "AADSTS500011")


@case("sign in, wrong assertion")
def _():
    refused(ClientAssertionCredential(TENANT, CLIENT, lambda: "none"), VAULT_SCOPE, "AADSTS700027")


run()
