"""Microsoft's clients of Key Vault for Python, unmodified and with their
defaults, against the vault VAULT_URL; the vault DENIED_URL refuses the caller.
FIXTURES is a folder with a certificate to import, as PFX and as PEM."""

import base64
import datetime
import os
import pathlib

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import DefaultAzureCredential
from azure.keyvault.certificates import (
    AdministratorContact,
    CertificateClient,
    CertificateContact,
    CertificateContentType,
    CertificatePolicy,
    CertificatePolicyAction,
    KeyCurveName,
    KeyType,
    KeyUsageType,
    LifetimeAction,
)
from azure.keyvault.secrets import SecretClient
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, pkcs12

from cases import case, equal, fails, run

VAULT_URL = os.environ["VAULT_URL"]
DENIED_URL = os.environ["DENIED_URL"]
FIXTURES = pathlib.Path(os.environ["FIXTURES"])

credential = DefaultAzureCredential()
secrets = SecretClient(VAULT_URL, credential)
certificates = CertificateClient(VAULT_URL, credential)

UNICODE = 'Zoë’s "žluťoučký kůň" 日本語 🐎\ttab\nline\\ <&>'

# The client waits two seconds between looks, and looks once before.
FAST = {"_polling_interval": 0}


def delete_secret(name):
    return secrets.begin_delete_secret(name, **FAST).result()


def delete_certificate(name):
    return certificates.begin_delete_certificate(name, **FAST).result()


def self_signed(**more):
    return CertificatePolicy("Self", subject="CN=py.example", san_dns_names=["py.example", "www.py.example"], **more)


def create(name, policy=None, **more):
    return certificates.begin_create_certificate(name, policy or self_signed(), **FAST, **more).result()


def check_pfx(name, der):
    """Opens the linked secret of a certificate and compares what it holds."""
    secret = secrets.get_secret(name)
    equal(secret.properties.content_type, "application/x-pkcs12", "content type")
    key, cert, _ = pkcs12.load_key_and_certificates(base64.b64decode(secret.value), None)
    equal(key.public_key().public_numbers(), cert.public_key().public_numbers(), "public key")
    equal(cert, x509.load_der_x509_certificate(bytes(der)), "certificate")


def at(*args):
    return datetime.datetime(*args, tzinfo=datetime.timezone.utc)


@case("secret set and get")
def _():
    tags = {"team": "Größe", "a b": "=&?"}
    given = dict(content_type="text/plain", tags=tags, enabled=True, expires_on=at(2041, 2, 3, 4, 5, 6), not_before=at(2031, 2, 3, 4, 5, 6))
    for s in [secrets.set_secret("py-set", UNICODE, **given), secrets.get_secret("py-set")]:
        equal(s.value, UNICODE)
        equal(s.name, "py-set")
        equal(len(s.properties.version), 32, "length of the version")
        equal(s.properties.vault_url, VAULT_URL, "vault")
        for name, want in given.items():
            equal(getattr(s.properties, name), want, name)
        assert s.properties.created_on <= s.properties.updated_on
        assert "Recoverable" in s.properties.recovery_level, s.properties.recovery_level
        equal(s.properties.recoverable_days, 90, "days")
        assert not s.properties.managed
    equal(secrets.set_secret("py-empty", "").value, "")


@case("secret versions")
def _():
    first = secrets.set_secret("py-versions", "one").properties.version
    second = secrets.set_secret("py-versions", "two").properties.version
    assert first != second
    equal(secrets.get_secret("py-versions").value, "two")
    equal(secrets.get_secret("py-versions", first).value, "one")
    equal({p.version for p in secrets.list_properties_of_secret_versions("py-versions")}, {first, second}, "versions")


@case("secret list")
def _():
    names = [f"py-list-{i:02}" for i in range(30)]
    for name in names:
        secrets.set_secret(name, "x", tags={"name": name})
    listed = [p for p in secrets.list_properties_of_secrets() if p.name.startswith("py-list-")]
    equal(sorted(p.name for p in listed), names, "names")
    assert all(p.tags == {"name": p.name} and p.version is None for p in listed)
    sizes = [len(list(page)) for page in secrets.list_properties_of_secrets(max_page_size=7).by_page()]
    assert len(sizes) > 4 and max(sizes) == 7, sizes


@case("secret update")
def _():
    version = secrets.set_secret("py-update", "value", tags={"old": "1"}, content_type="text/old").properties.version
    expires = at(2042, 1, 1)
    updated = secrets.update_secret_properties("py-update", version, tags={"neu": "2"}, content_type="text/new", expires_on=expires)
    equal((updated.tags, updated.content_type), ({"neu": "2"}, "text/new"), "answer")
    got = secrets.get_secret("py-update")
    equal((got.value, got.properties.version, got.properties.expires_on), ("value", version, expires), "secret")
    secrets.update_secret_properties("py-update", tags={})
    assert not secrets.get_secret("py-update").properties.tags


@case("secret names in another case")
def _():
    secrets.set_secret("py-Mixed-Case", "one")
    equal(secrets.get_secret("PY-MIXED-case").value, "one")
    secrets.set_secret("PY-mixed-CASE", "two")
    equal(len(list(secrets.list_properties_of_secret_versions("py-mixed-case"))), 2, "versions")
    equal(len([p for p in secrets.list_properties_of_secrets() if p.name.lower() == "py-mixed-case"]), 1, "secrets")


@case("secret disabled")
def _():
    version = secrets.set_secret("py-disabled", "value", enabled=False).properties.version
    err = fails(HttpResponseError, secrets.get_secret, "py-disabled")
    equal((err.status_code, err.error.code), (403, "Forbidden"), "error")
    assert "not allowed on a disabled secret" in err.message, err.message
    secrets.update_secret_properties("py-disabled", version, enabled=True)
    equal(secrets.get_secret("py-disabled").value, "value")


@case("secret delete, recover and purge")
def _():
    version = secrets.set_secret("py-deleted", "value", tags={"a": "b"}).properties.version
    deleted = delete_secret("py-deleted")
    equal((deleted.name, deleted.recovery_id), ("py-deleted", VAULT_URL + "/deletedsecrets/py-deleted"), "deleted secret")
    assert deleted.deleted_date < deleted.scheduled_purge_date
    fails(ResourceNotFoundError, secrets.get_secret, "py-deleted")
    equal(secrets.get_deleted_secret("py-deleted").properties.tags, {"a": "b"}, "tags")
    assert "py-deleted" in [s.name for s in secrets.list_deleted_secrets()]
    secrets.begin_recover_deleted_secret("py-deleted", **FAST).wait()
    got = secrets.get_secret("py-deleted")
    equal((got.value, got.properties.version), ("value", version), "recovered secret")
    delete_secret("py-deleted")
    secrets.purge_deleted_secret("py-deleted")
    fails(ResourceNotFoundError, secrets.get_deleted_secret, "py-deleted")


@case("secret backup and restore")
def _():
    secrets.set_secret("py-backup", "one")
    secrets.set_secret("py-backup", UNICODE)
    backup = secrets.backup_secret("py-backup")
    assert isinstance(backup, bytes) and backup
    fails(ResourceExistsError, secrets.restore_secret_backup, backup)
    delete_secret("py-backup")
    secrets.purge_deleted_secret("py-backup")
    equal(secrets.restore_secret_backup(backup).name, "py-backup")
    equal(secrets.get_secret("py-backup").value, UNICODE)
    equal(len(list(secrets.list_properties_of_secret_versions("py-backup"))), 2, "versions")


@case("secret not found")
def _():
    err = fails(ResourceNotFoundError, secrets.get_secret, "py-none")
    equal((err.status_code, err.error.code), (404, "SecretNotFound"), "error")
    assert "A secret with (name/id) py-none was not found in this key vault" in err.message, err.message
    fails(ResourceNotFoundError, secrets.get_secret, "py-none", "0" * 32)
    fails(ResourceNotFoundError, secrets.begin_delete_secret, "py-none")


@case("secret conflict")
def _():
    secrets.set_secret("py-conflict", "value")
    delete_secret("py-conflict")
    err = fails(ResourceExistsError, secrets.set_secret, "py-conflict", "other")
    equal((err.status_code, err.error.code), (409, "Conflict"), "error")
    assert "deleted but recoverable state" in err.message, err.message
    equal(err.error.innererror["code"], "ObjectIsDeletedButRecoverable", "inner code")


@case("secret bad name")
def _():
    err = fails(HttpResponseError, secrets.set_secret, "py_bad", "value")
    equal((err.status_code, err.error.code), (400, "BadParameter"), "error")
    assert "py_bad" in err.message, err.message


@case("certificate create self-signed")
def _():
    cert = create("py-self", tags={"made": "here"})
    equal((cert.name, cert.properties.tags), ("py-self", {"made": "here"}), "certificate")
    got = x509.load_der_x509_certificate(bytes(cert.cer))
    equal(got.subject.rfc4514_string(), "CN=py.example", "subject")
    equal(got.issuer, got.subject, "issuer")
    names = got.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    equal(names.get_values_for_type(x509.DNSName), ["py.example", "www.py.example"], "names")
    equal(cert.properties.expires_on, got.not_valid_after.replace(tzinfo=datetime.timezone.utc), "end")
    equal(certificates.get_certificate_operation("py-self").status, "completed", "status")


@case("certificate policy")
def _():
    policy = CertificatePolicy(
        "Self",
        subject="CN=policy.py.example, O=Größe",
        content_type=CertificateContentType.pem,
        exportable=True,
        key_type=KeyType.ec,
        key_curve_name=KeyCurveName.p_384,
        key_usage=[KeyUsageType.digital_signature, KeyUsageType.key_agreement],
        reuse_key=True,
        validity_in_months=7,
        enhanced_key_usage=["1.3.6.1.5.5.7.3.2"],
        lifetime_actions=[LifetimeAction(CertificatePolicyAction.email_contacts, days_before_expiry=20)],
        san_emails=["a@py.example"],
        san_user_principal_names=["b@py.example"],
        san_dns_names=["c.py.example"],
    )
    create("py-policy", policy)
    got = certificates.get_certificate_policy("py-policy")
    for name in [
        "issuer_name", "subject", "content_type", "exportable", "key_type", "key_curve_name", "key_usage", "reuse_key",
        "validity_in_months", "enhanced_key_usage", "san_emails", "san_user_principal_names", "san_dns_names",
    ]:  # fmt: skip
        equal(getattr(got, name), getattr(policy, name), name)
    (action,) = got.lifetime_actions
    equal((action.action, action.days_before_expiry, action.lifetime_percentage), ("EmailContacts", 20, None), "lifetime action")
    policy._validity_in_months = 11
    equal(certificates.update_certificate_policy("py-policy", policy).validity_in_months, 11, "validity")
    equal(certificates.get_certificate_policy("py-policy").validity_in_months, 11, "validity")
    secret = secrets.get_secret("py-policy")
    equal(secret.properties.content_type, "application/x-pem-file", "content type")
    pem = secret.value.encode()
    equal(load_pem_private_key(pem, None).public_key().public_numbers(), x509.load_pem_x509_certificate(pem).public_key().public_numbers(), "key")


@case("certificate import PFX")
def _():
    pfx = (FIXTURES / "import.pfx").read_bytes()
    cert = certificates.import_certificate("py-pfx", pfx, password=os.environ["IMPORT_PASSWORD"], tags={"from": "pfx"})
    want = x509.load_pem_x509_certificate((FIXTURES / "import.pem").read_bytes())
    equal(x509.load_der_x509_certificate(bytes(cert.cer)), want, "certificate")
    equal(cert.properties.tags, {"from": "pfx"}, "tags")
    check_pfx("py-pfx", cert.cer)
    err = fails(HttpResponseError, certificates.import_certificate, "py-pfx-wrong", pfx, password="wrong")
    equal((err.status_code, err.error.code), (400, "BadParameter"), "error")


@case("certificate import PEM")
def _():
    pem = (FIXTURES / "import.pem").read_bytes()
    policy = CertificatePolicy("Unknown", subject="CN=import.example", content_type=CertificateContentType.pem)
    cert = certificates.import_certificate("py-pem", pem, policy=policy)
    equal(x509.load_der_x509_certificate(bytes(cert.cer)), x509.load_pem_x509_certificate(pem), "certificate")
    got = load_pem_private_key(secrets.get_secret("py-pem").value.encode(), None)
    equal(got.private_numbers(), load_pem_private_key(pem, None).private_numbers(), "key")


@case("certificate linked secret")
def _():
    cert = create("py-linked")
    secret = secrets.get_secret("py-linked")
    equal((secret.id, secret.properties.key_id), (cert.secret_id, cert.key_id), "ids")
    equal(secret.properties.managed, True, "managed")
    check_pfx("py-linked", cert.cer)
    equal(fails(HttpResponseError, secrets.set_secret, "py-linked", "value").status_code, 403, "status")


@case("certificate list, versions and update")
def _():
    first = create("py-many").properties.version
    second = create("py-many").properties.version
    equal({p.version for p in certificates.list_properties_of_certificate_versions("py-many")}, {first, second}, "versions")
    assert "py-many" in [p.name for p in certificates.list_properties_of_certificates()]
    updated = certificates.update_certificate_properties("py-many", first, enabled=False, tags={"old": "yes"}).properties
    equal((updated.enabled, updated.tags), (False, {"old": "yes"}), "answer")
    equal(certificates.get_certificate_version("py-many", first).properties.enabled, False, "enabled")
    equal(certificates.get_certificate("py-many").properties.version, second, "newest")


@case("certificate operation")
def _():
    # Nobody issues it, so the poller is given up rather than waited for.
    certificates.begin_create_certificate("py-pending", CertificatePolicy("Unknown", subject="CN=pending.py.example"))
    operation = certificates.get_certificate_operation("py-pending")
    equal(operation.status, "inProgress", "status")
    assert operation.csr
    assert "py-pending" not in [p.name for p in certificates.list_properties_of_certificates()]
    assert "py-pending" in [p.name for p in certificates.list_properties_of_certificates(include_pending=True)]
    equal(certificates.cancel_certificate_operation("py-pending").cancellation_requested, True, "cancelled")
    certificates.delete_certificate_operation("py-pending")
    fails(ResourceNotFoundError, certificates.get_certificate_operation, "py-pending")


@case("certificate delete, recover and purge")
def _():
    cert = create("py-gone")
    deleted = delete_certificate("py-gone")
    equal(deleted.recovery_id, VAULT_URL + "/deletedcertificates/py-gone", "recovery id")
    assert deleted.deleted_on < deleted.scheduled_purge_date
    fails(ResourceNotFoundError, certificates.get_certificate, "py-gone")
    fails(ResourceNotFoundError, secrets.get_secret, "py-gone")
    assert "py-gone" in [c.name for c in certificates.list_deleted_certificates()]
    certificates.begin_recover_deleted_certificate("py-gone", **FAST).wait()
    check_pfx("py-gone", cert.cer)
    delete_certificate("py-gone")
    certificates.purge_deleted_certificate("py-gone")
    fails(ResourceNotFoundError, certificates.get_deleted_certificate, "py-gone")


@case("certificate backup and restore")
def _():
    cert = create("py-kept")
    backup = certificates.backup_certificate("py-kept")
    delete_certificate("py-kept")
    certificates.purge_deleted_certificate("py-kept")
    equal(certificates.restore_certificate_backup(backup).cer, cert.cer, "certificate")
    check_pfx("py-kept", cert.cer)


@case("certificate issuers")
def _():
    def contact(phone):
        return AdministratorContact(first_name="Zoë", last_name="Müller", email="zoe@py.example", phone=phone)

    certificates.create_issuer(
        "py-issuer", "Test", account_id="account", password="not kept", organization_id="org", admin_contacts=[contact("1")], enabled=True
    )
    got = certificates.get_issuer("py-issuer")
    equal((got.name, got.provider, got.account_id, got.organization_id, got.enabled), ("py-issuer", "Test", "account", "org", True), "issuer")
    (admin,) = got.admin_contacts
    equal((admin.first_name, admin.last_name, admin.email, admin.phone), ("Zoë", "Müller", "zoe@py.example", "1"), "contact")
    assert ("py-issuer", "Test") in [(i.name, i.provider) for i in certificates.list_properties_of_issuers()]
    equal(certificates.update_issuer("py-issuer", admin_contacts=[contact("2")]).admin_contacts[0].phone, "2", "phone")
    equal(certificates.delete_issuer("py-issuer").name, "py-issuer")
    fails(ResourceNotFoundError, certificates.get_issuer, "py-issuer")


@case("certificate contacts")
def _():
    def flat(contacts):
        return [(c.email, c.name, c.phone) for c in contacts]

    contacts = [CertificateContact(email="a@py.example", name="Zoë", phone="1"), CertificateContact(email="b@py.example")]
    equal(flat(certificates.set_contacts(contacts)), flat(contacts), "answer")
    equal(flat(certificates.get_contacts()), flat(contacts), "contacts")
    equal(flat(certificates.delete_contacts()), flat(contacts), "answer")
    fails(ResourceNotFoundError, certificates.get_contacts)


@case("certificate not found")
def _():
    err = fails(ResourceNotFoundError, certificates.get_certificate, "py-none")
    equal((err.status_code, err.error.code), (404, "CertificateNotFound"), "error")
    assert "A certificate with (name/id) py-none was not found in this key vault" in err.message, err.message


@case("certificate conflict")
def _():
    create("py-taken")
    delete_certificate("py-taken")
    err = fails(ResourceExistsError, certificates.begin_create_certificate, "py-taken", self_signed())
    equal((err.status_code, err.error.code), (409, "Conflict"), "error")
    assert "deleted but recoverable state" in err.message, err.message


@case("denied without a role")
def _():
    for ask, action in [
        (SecretClient(DENIED_URL, credential).get_secret, "secrets/getSecret/action"),
        (CertificateClient(DENIED_URL, credential).get_certificate, "certificates/read"),
    ]:
        err = fails(HttpResponseError, ask, "x")
        equal((err.status_code, err.error.code), (403, "Forbidden"), "error")
        assert "Caller is not authorized to perform action on resource.\r\n" in err.message, err.message
        assert f"Action: 'Microsoft.KeyVault/vaults/{action}'\r\n" in err.message, err.message
        equal(err.error.innererror["code"], "ForbiddenByRbac", "inner code")


run()
