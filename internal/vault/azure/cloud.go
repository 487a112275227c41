package azure

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// A Cloud is one of Azure's clouds, or one that is like them.
type Cloud struct {
	// Authority is where identities sign in: https:// and a host.
	Authority string

	// VaultSuffix makes addresses of vaults, which are https://{vault}.{suffix},
	// and is the host of the audience that their tokens are for. It has a port
	// unless that is 443.
	VaultSuffix string

	// ResourceManager is the address of Azure Resource Manager, and
	// ResourceManagerAudience what tokens for it are for. A cloud of one's own may
	// have none.
	ResourceManager         string
	ResourceManagerAudience string

	own bool // Microsoft's directory of authorities does not know it
}

// Names of clouds in settings.
const (
	cloudPublic = "public"
	cloudUSGov  = "usgov"
	cloudChina  = "china"
	cloudCustom = "custom"
)

var cloudNames = []string{cloudPublic, cloudUSGov, cloudChina, cloudCustom}

// microsofts returns one of Microsoft's clouds.
func microsofts(name string) (Cloud, bool) {
	switch name {
	case cloudPublic:
		return Cloud{"https://login.microsoftonline.com", "vault.azure.net", "https://management.azure.com", "https://management.core.windows.net/", false}, true
	case cloudUSGov:
		return Cloud{"https://login.microsoftonline.us", "vault.usgovcloudapi.net", "https://management.usgovcloudapi.net", "https://management.core.usgovcloudapi.net/", false}, true
	case cloudChina:
		return Cloud{"https://login.chinacloudapi.cn", "vault.azure.cn", "https://management.chinacloudapi.cn", "https://management.core.chinacloudapi.cn/", false}, true
	}
	return Cloud{}, false
}

// String returns the name of the cloud.
func (c Cloud) String() string {
	for _, name := range cloudNames {
		if m, ok := microsofts(name); ok && m == c {
			return name
		}
	}
	return cloudCustom
}

// vaultURL returns the address of the vault with a name that has been checked.
func (c Cloud) vaultURL(name string) string {
	return "https://" + strings.ToLower(name) + "." + c.VaultSuffix
}

// checkAddress returns what is wrong with the address of a service.
func checkAddress(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || !plainHost(u.Host) || strings.TrimSuffix(s, "/") != "https://"+u.Host {
		return errors.New("must be https:// and a host, such as https://login.example.org")
	}
	return nil
}

// checkSuffix returns what is wrong with the domain of a cloud's vaults.
func checkSuffix(s string) error {
	if u, err := url.Parse("https://" + s); err != nil || u.Host != s || !plainHost(s) || !strings.Contains(s, ".") {
		return errors.New("must be a domain such as vault.example.org, in lower case")
	}
	return nil
}

// plainHost reports whether s is a host name in lower case, perhaps with a port.
func plainHost(s string) bool {
	host, port, has := strings.Cut(s, ":")
	if has && (port == "" || strings.Trim(port, "0123456789") != "") {
		return false
	}
	return len(host) <= 200 && !slices.ContainsFunc(strings.Split(host, "."), func(label string) bool {
		return label == "" || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != ""
	})
}
