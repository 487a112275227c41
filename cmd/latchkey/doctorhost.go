package main

import (
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// Bounds of what a server says of its own machine.
const (
	lowDisk        = 10                  // percent of the disk that should be free
	certificateEnd = 14 * 24 * time.Hour // before the end of the address's certificate
	identityEnd    = 30 * 24 * time.Hour // before that of the one by which it signs in to Azure
)

// hostFindings look at what is on this server's machine: its files, its disk and
// the certificate of its address. Other servers of the installation have others.
func (s *service) hostFindings() []latchkey.Finding {
	found := []latchkey.Finding{s.keyFileFinding(), s.dataFinding()}
	if f, ok := s.diskFinding(); ok {
		found = append(found, f)
	}
	found = append(found, s.addressFinding())
	if f, ok := s.identityFinding(); ok {
		found = append(found, f)
	}
	if f, ok := s.azureFinding(); ok {
		found = append(found, f)
	}
	if _, err := os.Stat(filepath.Join(s.config.Data, adminTokenFile)); err == nil {
		found = append(found, latchkey.Finding{Area: "server", Check: "admin-token", State: latchkey.FindingWarning,
			Message: "The first admin's token is still in its file.", Remedy: "Make an account for each admin, then delete the file.",
			Command: "rm " + cli.QuoteWord(filepath.Join(s.config.Data, adminTokenFile))})
	}
	return found
}

func (s *service) keyFileFinding() latchkey.Finding {
	f := latchkey.Finding{Area: "server", Check: "master-key-file", State: latchkey.FindingOK, Message: "Nobody but the service can read the master key file."}
	info, err := os.Stat(s.config.MasterKey)
	switch {
	case err != nil:
		f.State, f.Message = latchkey.FindingFailed, "The master key file cannot be found any more: the next start of this server will fail."
		f.Remedy = "Put it back from its backup."
	case runtime.GOOS == "windows": // whose modes do not say
		f.State, f.Message = latchkey.FindingUnknown, "Who can read the master key file is not looked at on Windows."
	case info.Mode().Perm()&0o077 != 0:
		f.Message = fmt.Sprintf("The master key file has the mode %04o.", info.Mode().Perm())
		// As systemd and Kubernetes hand it over: readable by the group of a file of
		// somebody else's. seal.LoadKey refuses the rest.
		if info.Mode().Perm()&0o037 != 0 {
			f.State, f.Remedy, f.Command = latchkey.FindingFailed, "Let nobody else read it.", "chmod 600 "+cli.QuoteWord(s.config.MasterKey)
		}
	}
	return f
}

func (s *service) dataFinding() latchkey.Finding {
	f := latchkey.Finding{Area: "server", Check: "data-folder", State: latchkey.FindingOK, Message: "Nobody but the service can look into the data folder."}
	info, err := os.Stat(s.config.Data)
	switch {
	case err != nil:
		f.State, f.Message = latchkey.FindingFailed, "The data folder cannot be found any more."
	case runtime.GOOS == "windows":
		f.State, f.Message = latchkey.FindingUnknown, "Who can look into the data folder is not looked at on Windows."
	case info.Mode().Perm()&0o077 != 0:
		f.State, f.Message = latchkey.FindingWarning, fmt.Sprintf("The data folder has the mode %04o: others can look into it.", info.Mode().Perm())
		f.Command = "chmod 700 " + cli.QuoteWord(s.config.Data)
	}
	return f
}

func (s *service) diskFinding() (latchkey.Finding, bool) {
	free, total, err := diskSpace(s.config.Data)
	if err != nil || total == 0 {
		return latchkey.Finding{}, false
	}
	percent := free * 100 / total
	f := latchkey.Finding{Area: "server", Check: "disk", State: latchkey.FindingOK, Message: fmt.Sprintf("%d%% of the disk with the data folder are free (%.1f GB).", percent, float64(free)/1e9)}
	if percent < lowDisk {
		f.State, f.Remedy = latchkey.FindingWarning, "Make room: when the disk is full nothing is changed, claimed or released."
	}
	return f, true
}

// identityFinding looks at the certificate by which this server signs in to Azure, if
// it does so by one.
func (s *service) identityFinding() (latchkey.Finding, bool) {
	const area, check = "azure", "azure-certificate"
	ends, ok, err := s.config.azure.CertificateEnds()
	switch {
	case !ok:
		return latchkey.Finding{}, false
	case err != nil:
		return latchkey.Finding{Area: area, Check: check, State: latchkey.FindingFailed, Message: "The certificate by which the server signs in to Azure cannot be read: " + err.Error() + ".",
			Remedy: "Put a certificate with its key there that the application knows."}, true
	}
	f := latchkey.EndOfCertificate(area, check, "The certificate by which the server signs in to Azure", ends, time.Now(), identityEnd)
	if f.State != latchkey.FindingOK {
		f.Remedy = "Add a new one to the application in Entra ID, and put it with its key into " + s.config.azure.CertificateFile + "."
	}
	return f, true
}

// azureFinding says how much this server asks of vaults in Azure.
func (s *service) azureFinding() (latchkey.Finding, bool) {
	u := s.readers.usage()
	if u.vaults == 0 && u.paused == 0 {
		return latchkey.Finding{}, false
	}
	f := latchkey.Finding{Area: "azure", Check: "azure-vaults", State: latchkey.FindingOK,
		Message: fmt.Sprintf("In the last hour this server has sent %d requests to vaults in Azure (%d); %d answers were 429, and %d vaults are left alone now.", u.requests, u.vaults, u.throttled, u.paused)}
	if u.throttled > 0 || u.paused > 0 {
		f.State, f.Remedy = latchkey.FindingWarning, "The doctor of the environments whose references name them says which."
	}
	return f, true
}

// addressFinding says how the API's address is protected.
func (s *service) addressFinding() latchkey.Finding {
	if s.config.TLSCert == "" {
		f := latchkey.Finding{Area: "server", Check: "tls", State: latchkey.FindingOK, Message: "The API is reached from this machine only, without TLS."}
		if s.inTheOpen() {
			f.State, f.Message = latchkey.FindingWarning, "The API is reached from other machines without TLS."
			f.Remedy = "Let only a proxy that does TLS reach it, or give --tls-cert and --tls-key."
		}
		return f
	}
	cert, err := s.files.get(nil)
	if err == nil {
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(cert.Certificate[0]); err == nil {
			return latchkey.EndOfCertificate("server", "tls", "The certificate of the API's address", c.NotAfter, time.Now(), certificateEnd)
		}
	}
	return latchkey.Finding{Area: "server", Check: "tls", State: latchkey.FindingFailed, Message: "The certificate of the API's address cannot be read: see the server's log."}
}
