package latchkey

import "testing"

// TestVaultRoleActions holds the roles against what Azure's of these names allow.
func TestVaultRoleActions(t *testing.T) {
	for role, want := range map[VaultRole]string{
		VaultAdministrator:       "secret metadata setSecret certificate create issuer contacts key",
		VaultSecretsOfficer:      "secret metadata setSecret",
		VaultSecretsUser:         "secret metadata",
		VaultCertificatesOfficer: "certificate create issuer contacts",
		VaultCertificateUser:     "secret metadata certificate key",
		VaultCryptoOfficer:       "key",
		VaultCryptoUser:          "key",
		VaultReader:              "metadata certificate issuer key",
		"":                       "",
	} {
		got := ""
		for _, a := range []struct {
			name   string
			action VaultAction
		}{
			{"secret", VaultGetSecret}, {"metadata", VaultReadMetadata}, {"setSecret", VaultSetSecret}, {"certificate", VaultReadCertificate},
			{"create", VaultCreateCertificate}, {"issuer", VaultReadIssuer}, {"contacts", VaultWriteContacts}, {"key", VaultReadKey},
		} {
			if role.Allows(a.action) {
				got += " " + a.name
			}
		}
		if got != "" {
			got = got[1:]
		}
		if got != want {
			t.Errorf("%s allows %s; want %s", role, got, want)
		}
	}
}
