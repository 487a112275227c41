package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// A certificateBundle is one version of a certificate as Key Vault writes it.
type certificateBundle struct {
	secretBundle
	Thumbprint string                      `json:"x5t,omitempty"` // SHA-1, in base64url
	DER        []byte                      `json:"cer,omitempty"`
	Policy     *latchkey.CertificatePolicy `json:"policy,omitempty"`
}

// fields shows a version's metadata.
func (b certificateBundle) fields() []cli.Field {
	at := b.attributes()
	f := []cli.Field{
		{"Certificate", b.name()}, {"Version", b.version()}, {"Enabled", b.enabled()},
		{"Not before", unixTime(at.NotBefore)}, {"Expires", unixTime(at.Expires)}, {"SHA-1", b.thumbprint()}, {"Created", unixTime(at.Created)},
		{"Deleted", unixTime(b.DeletedDate)}, {"Purged", unixTime(b.ScheduledFor)},
	}
	if p := b.Policy; p != nil && p.X509 != nil && p.Issuer != nil && p.Key != nil {
		f = append(f, cli.Field{"Subject", deref(p.X509.Subject)}, cli.Field{"Issuer", deref(p.Issuer.Name)}, cli.Field{"Key", keyText(p.Key)})
	}
	if b.DER == nil && b.Policy != nil {
		f = append(f, cli.Field{"State", "pending"})
	}
	return f
}

func keyText(k *latchkey.CertificateKey) string {
	text := deref(k.Type)
	if k.Size != nil {
		text += " " + strconv.Itoa(*k.Size)
	}
	if k.Curve != nil {
		text += " " + *k.Curve
	}
	if k.Exportable != nil && !*k.Exportable {
		text += ", stays in the vault"
	}
	return text
}

// thumbprint returns the SHA-1 of the certificate in hexadecimal, as most
// programs show it.
func (b certificateBundle) thumbprint() string {
	sum, err := base64.RawURLEncoding.DecodeString(b.Thumbprint)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%X", sum)
}

// MarshalJSON writes times as RFC 3339 in UTC, in place of seconds.
func (b certificateBundle) MarshalJSON() ([]byte, error) {
	common, err := json.Marshal(shownSecret{b.secretBundle})
	if err != nil {
		return nil, err
	}
	more, err := json.Marshal(struct {
		Thumbprint string                      `json:"x5t,omitempty"`
		DER        []byte                      `json:"cer,omitempty"`
		Policy     *latchkey.CertificatePolicy `json:"policy,omitempty"`
	}{b.Thumbprint, b.DER, b.Policy})
	if err != nil || string(more) == "{}" {
		return common, err
	}
	return append(append(common[:len(common)-1], ','), more[1:]...), nil
}

// An operation is a request for a version of a certificate as Key Vault writes
// it.
type operation struct {
	ID        string `json:"id"`
	CSR       []byte `json:"csr"`
	Status    string `json:"status"`
	Cancelled bool   `json:"cancellation_requested"`
	Details   string `json:"status_details,omitempty"`
	RequestID string `json:"request_id"`
}

// fields shows how a request stands.
func (o operation) fields(name string) []cli.Field {
	status := o.Status
	if o.Cancelled {
		status = "cancelled"
	}
	return []cli.Field{{"Certificate", name}, {"Request", o.RequestID}, {"State", status}, {"Details", o.Details}}
}

func (a *app) vaultCertificateCommand() *cobra.Command {
	cmd := cli.Group("certificate", "certificates in an embedded vault", `Certificates in an embedded vault, with their private keys. The vault makes the key, and
signs the certificate with it or has somebody else sign a request. What was made elsewhere
can be imported. Programs read a certificate with its key as the secret of the same name,
as far as its policy lets the key leave.`, "certificates")
	cmd.AddCommand(a.certificateCreate(), a.certificateImport(), a.certificateList(), a.certificateShow(), a.certificateVersions(),
		a.certificateDownload(), a.certificateRequest(), a.certificateMerge(), a.certificateCancel(), a.certificatePolicy(), a.certificateUpdate(),
		a.sure(a.certificatePlain("delete VAULT CERTIFICATE", "delete a certificate with its secret and key; it can be recovered", http.MethodDelete, "certificates", ""),
			func(args []string) string { return fmt.Sprintf("delete the certificate %s of %s", args[1], args[0]) }),
		a.certificatePlain("recover VAULT CERTIFICATE", "bring a deleted certificate back", http.MethodPost, "deletedcertificates", "/recover"),
		a.sure(a.certificatePlain("purge VAULT CERTIFICATE", "remove a deleted certificate for good", http.MethodDelete, "deletedcertificates", ""),
			func(args []string) string {
				return fmt.Sprintf("purge the certificate %s of %s for good", args[1], args[0])
			}),
		a.objectBackup("certificate", "certificates"), a.objectRestore("certificate", "certificates"))
	return cmd
}

// A newPolicy is what flags say of a policy.
type newPolicy struct {
	file, subject, issuer, kind, curve, contentType string
	size, months, renewDays                         int
	names                                           latchkey.CertificateNames
	exportable, reuse                               bool
}

// policy returns the policy of a file, or else what the flags say.
func (p *newPolicy) policy(a *app) (latchkey.CertificatePolicy, error) {
	if p.file != "" {
		return a.readPolicy(p.file)
	}
	out := latchkey.CertificatePolicy{
		Issuer: &latchkey.CertificateIssuer{Name: &p.issuer},
		Key:    &latchkey.CertificateKey{Type: &p.kind, Exportable: &p.exportable, Reuse: &p.reuse},
		Secret: &latchkey.CertificateSecret{ContentType: new(latchkey.ContentTypePFX)},
		X509:   &latchkey.CertificateX509{Subject: &p.subject, Names: &p.names, Months: &p.months},
	}
	if p.contentType == "pem" {
		out.Secret.ContentType = new(latchkey.ContentTypePEM)
	}
	if p.kind == "EC" {
		out.Key.Curve = &p.curve
	} else {
		out.Key.Size = &p.size
	}
	if p.renewDays > 0 {
		out.Lifetime = []latchkey.LifetimeAction{{Trigger: &latchkey.LifetimeTrigger{DaysBefore: &p.renewDays}, Action: &latchkey.LifetimeDo{Type: new(latchkey.AutoRenew)}}}
	}
	return out, nil
}

// maxPolicy bounds a file with a policy, in bytes.
const maxPolicy = 64 << 10

func (a *app) readPolicy(file string) (p latchkey.CertificatePolicy, err error) {
	b, err := a.readInput(file, maxPolicy)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, cli.Hint(fmt.Errorf("%s is no policy in JSON: %w", file, err), "latchkey vault certificate policy VAULT CERTIFICATE, which prints one")
	}
	return p, nil
}

// readInput reads a file, or standard input for "-".
func (a *app) readInput(file string, most int64) ([]byte, error) {
	if file == "-" {
		return readAll(a.In, most, "standard input")
	}
	return readFile(file, most)
}

func (a *app) certificateCreate() *cobra.Command {
	var p newPolicy
	var disabled bool
	cmd := &cobra.Command{
		Use:   "create VAULT CERTIFICATE",
		Short: "make a certificate, or a new version of one",
		Long: `Create makes a key in the vault, and the certificate for it. With --issuer Self the
certificate signs itself and is there at once; the vault renews it at four fifths of its
life, or as --renew-days says. With --issuer Unknown there is a request for somebody to
sign: see request and merge.`,
		Example: `  latchkey vault certificate create erp web --subject CN=erp.example.com --dns-name erp.example.com
  latchkey vault certificate create erp bot --subject CN=bot --upn bot@example.com --issuer Unknown`,
		Args: cli.Exactly("VAULT", "CERTIFICATE"), ValidArgsFunction: a.completeIn("certificates"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			path, err := secretPath("certificates", args[1], "")
			if err != nil {
				return err
			}
			policy, err := p.policy(a)
			if err != nil {
				return err
			}
			if p.file == "" && p.subject == "" && len(p.names.DNS)+len(p.names.Emails)+len(p.names.UPNs)+len(p.names.IPs)+len(p.names.URIs) == 0 {
				return cli.Hint(cli.Usagef("say whom the certificate is for"), "--subject CN=example.com, or --policy FILE")
			}
			return a.inVault(ctx, args[0], func(v *keyVault) error {
				in := map[string]any{"policy": policy, "attributes": secretAttributes{Enabled: new(!disabled)}}
				if err := v.do(ctx, http.MethodPost, path+"/create", in, nil); err != nil {
					return err
				}
				// The answer is that of a request; what became of it is known at once.
				return a.showCertificate(ctx, v, args[1])
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.file, "policy", "", "file with a policy as Key Vault writes it, in JSON, in place of the other flags; - is standard input")
	f.StringVar(&p.subject, "subject", "", "distinguished name, such as CN=example.com")
	f.StringSliceVar(&p.names.DNS, "dns-name", nil, "DNS name; repeatable")
	f.StringSliceVar(&p.names.Emails, "email", nil, "email address; repeatable")
	f.StringSliceVar(&p.names.UPNs, "upn", nil, "user principal name, by which a user signs in; repeatable")
	f.StringSliceVar(&p.names.IPs, "ip", nil, "IP address; repeatable")
	f.StringArrayVar(&p.names.URIs, "uri", nil, "URI; repeatable")
	cli.EnumFlag(cmd, &p.issuer, "issuer", latchkey.IssuerSelf, "who signs it: Self or Unknown",
		described(latchkey.IssuerSelf, "the certificate signs itself"), described(latchkey.IssuerUnknown, "somebody signs the request"))
	cli.EnumFlag(cmd, &p.kind, "key-type", "RSA", "type of the key: RSA or EC", "RSA", "EC")
	f.IntVar(&p.size, "key-size", 2048, "bits of an RSA key: 2048, 3072 or 4096")
	cli.EnumFlag(cmd, &p.curve, "curve", "P-256", "curve of an EC key: P-256, P-384 or P-521", "P-256", "P-384", "P-521")
	f.IntVar(&p.months, "months", 12, "how long it is valid")
	f.IntVar(&p.renewDays, "renew-days", 0, "renew it so many days before its end; default: at four fifths of its life")
	f.BoolVar(&p.exportable, "exportable", true, "let the private key leave the vault, in the secret of the same name")
	f.BoolVar(&p.reuse, "reuse-key", false, "keep the key when it is renewed")
	cli.EnumFlag(cmd, &p.contentType, "secret", "pfx", "form of the secret: pfx or pem", "pfx", "pem")
	f.BoolVar(&disabled, "disabled", false, "make it so that it cannot be read yet")
	return cmd
}

// showCertificate prints what there is of a certificate: its newest version, or
// the request for one.
func (a *app) showCertificate(ctx context.Context, v *keyVault, name string) error {
	path, err := secretPath("certificates", name, "")
	if err != nil {
		return err
	}
	var o operation
	if err := v.do(ctx, http.MethodGet, path+"/pending", nil, &o); err == nil && o.Status != "completed" {
		if !a.JSON {
			a.Say("the certificate is pending: have the request signed, and merge what comes back")
		}
		return a.PrintOne(o, o.fields(name)...)
	}
	var b certificateBundle
	if err := v.do(ctx, http.MethodGet, path+"/", nil, &b); err != nil {
		return err
	}
	return a.PrintOne(b, b.fields()...)
}

// maxCertificateFile bounds a file with a certificate, in bytes.
const maxCertificateFile = 256 << 10

func (a *app) certificateImport() *cobra.Command {
	var passwordFile string
	var exportable, preserve bool
	cmd := &cobra.Command{
		Use:   "import VAULT CERTIFICATE FILE",
		Short: "store a certificate that was made elsewhere, with its private key",
		Long: `Import adds a version that was made elsewhere: a PFX (.pfx, .p12), or PEM with the
certificates and the private key as PKCS #8. The password of a PFX is read from
--password-file; a PFX without one needs none.`,
		Example: `  latchkey vault certificate import erp web web.pfx --password-file password.txt
  cat key.pem chain.pem | latchkey vault certificate import erp web -`,
		Args: cli.Exactly("VAULT", "CERTIFICATE", "FILE"), ValidArgsFunction: a.completeThenFile("certificates"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			path, err := secretPath("certificates", args[1], "")
			if err != nil {
				return err
			}
			content, err := a.readInput(args[2], maxCertificateFile)
			if err != nil {
				return err
			}
			in := map[string]any{
				"value": string(content), "preserveCertOrder": preserve,
				"policy": latchkey.CertificatePolicy{Key: &latchkey.CertificateKey{Exportable: &exportable}},
			}
			if !latchkey.IsPEM(string(content)) {
				in["value"] = base64.StdEncoding.EncodeToString(content)
			}
			if passwordFile != "" {
				b, err := a.readInput(passwordFile, latchkey.MaxSecretBytes)
				if err != nil {
					return err
				}
				in["pwd"] = strings.TrimRight(string(b), "\r\n")
			}
			return a.inVault(ctx, args[0], func(v *keyVault) error {
				var b certificateBundle
				if err := v.do(ctx, http.MethodPost, path+"/import", in, &b); err != nil {
					return err
				}
				return a.PrintOne(b, b.fields()...)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&passwordFile, "password-file", "", "file with the password of the PFX; a line break at the end does not count")
	f.BoolVar(&exportable, "exportable", true, "let the private key leave the vault, in the secret of the same name")
	f.BoolVar(&preserve, "preserve-order", false, "keep the order of the certificates; otherwise each comes before its issuer")
	return cmd
}

func (a *app) certificateList() *cobra.Command {
	var deleted, pending bool
	cmd := &cobra.Command{
		Use: "list VAULT", Short: "list the certificates of a vault", Args: cli.Exactly("VAULT"), ValidArgsFunction: a.completeVaults(),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				if deleted {
					return cli.PrintList(&a.Console, listVault[certificateBundle](cmd.Context(), v, "/deletedcertificates?includePending=true"), []string{"CERTIFICATE", "DELETED", "PURGED"},
						func(b certificateBundle) []string {
							return []string{b.name(), unixTime(b.DeletedDate), unixTime(b.ScheduledFor)}
						})
				}
				path := "/certificates"
				if pending {
					path += "?includePending=true"
				}
				return cli.PrintList(&a.Console, listVault[certificateBundle](cmd.Context(), v, path), []string{"CERTIFICATE", "ENABLED", "EXPIRES", "SHA-1"},
					func(b certificateBundle) []string {
						return []string{b.name(), b.enabled(), unixTime(b.attributes().Expires), b.thumbprint()}
					})
			})
		},
	}
	cmd.Flags().BoolVar(&deleted, "deleted", false, "those that are deleted and can still be recovered")
	cmd.Flags().BoolVar(&pending, "pending", false, "also those that are pending for the first time")
	return cmd
}

func (a *app) certificateVersions() *cobra.Command {
	return a.certificateCommand("versions VAULT CERTIFICATE", "list the versions of a certificate", func(cmd *cobra.Command, v *keyVault, path string, _ []string) error {
		return cli.PrintList(&a.Console, listVault[certificateBundle](cmd.Context(), v, path+"/versions"), []string{"VERSION", "ENABLED", "NOT BEFORE", "EXPIRES", "SHA-1"},
			func(b certificateBundle) []string {
				at := b.attributes()
				return []string{b.version(), b.enabled(), unixTime(at.NotBefore), unixTime(at.Expires), b.thumbprint()}
			})
	})
}

// certificateCommand returns a command about one certificate, which do carries
// out; path is that of the certificate.
func (a *app) certificateCommand(use, short string, do func(cmd *cobra.Command, v *keyVault, path string, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Args: cli.Exactly("VAULT", "CERTIFICATE"), ValidArgsFunction: a.completeIn("certificates"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath("certificates", args[1], "")
			if err != nil {
				return err
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error { return do(cmd, v, path, args) })
		},
	}
}

// versionFlag adds --version to a command about a certificate.
func (a *app) versionFlag(cmd *cobra.Command, version *string) {
	cmd.Flags().StringVar(version, "version", "", "version; default: the newest")
	completeFlagAfter(cmd, "version", a.completeVersions("certificates"))
}

func (a *app) certificateShow() *cobra.Command {
	var version string
	cmd := a.certificateCommand("show VAULT CERTIFICATE", "show a certificate's newest version, and how it was made", func(cmd *cobra.Command, v *keyVault, _ string, args []string) error {
		path, err := secretPath("certificates", args[1], version)
		if err != nil {
			return err
		}
		var b certificateBundle
		if err := v.do(cmd.Context(), http.MethodGet, path, nil, &b); err != nil {
			return err
		}
		return a.PrintOne(b, b.fields()...)
	})
	a.versionFlag(cmd, &version)
	return cmd
}

func (a *app) certificateUpdate() *cobra.Command {
	var version string
	var enabled bool
	cmd := a.certificateCommand("update VAULT CERTIFICATE", "enable or disable a version, with its secret and key", func(cmd *cobra.Command, v *keyVault, _ string, args []string) error {
		if !cmd.Flags().Changed("enabled") {
			return cli.Usagef("say --enabled or --enabled=false")
		}
		path, err := secretPath("certificates", args[1], version)
		if err != nil {
			return err
		}
		var b certificateBundle
		if err := v.do(cmd.Context(), http.MethodPatch, path, secretBundle{Attributes: &secretAttributes{Enabled: &enabled}}, &b); err != nil {
			return err
		}
		return a.PrintOne(b, b.fields()...)
	})
	a.versionFlag(cmd, &version)
	cmd.Flags().BoolVar(&enabled, "enabled", false, "whether it can be read")
	return cmd
}

func (a *app) certificateDownload() *cobra.Command {
	var version, form, output string
	var force bool
	cmd := a.certificateCommand("download VAULT CERTIFICATE", "write a certificate, with its private key if you like", func(cmd *cobra.Command, v *keyVault, path string, args []string) error {
		content, err := a.download(cmd.Context(), v, args[1], version, form)
		if err != nil {
			return err
		}
		return a.writeOutput(output, content, form == "cer", force)
	})
	cmd.Long = `Download writes a certificate: alone as PEM (cer), or with its private key and the other
certificates of its chain as they are in its secret, as a PFX without a password (pfx) or as
PEM (pem). It takes the right to read that secret then, and is on record.`
	cmd.Example = `  latchkey vault certificate download erp web > web.crt
  latchkey vault certificate download erp web --form pfx --output web.pfx`
	a.versionFlag(cmd, &version)
	cli.EnumFlag(cmd, &form, "form", "cer", "what to write: cer, pfx or pem",
		described("cer", "the certificate alone, as PEM"), described("pfx", "with its private key, without a password"), described("pem", "with its private key, as PEM"))
	outputFlags(cmd, &output, &force)
	return cmd
}

// download returns a version of a certificate in a form.
func (a *app) download(ctx context.Context, v *keyVault, name, version, form string) ([]byte, error) {
	collection, query := "secrets", ""
	switch form {
	case "cer":
		collection = "certificates"
	case "pem":
		query = "?outContentType=" + latchkey.ContentTypePEM
	}
	path, err := secretPath(collection, name, version)
	if err != nil {
		return nil, err
	}
	var b certificateBundle
	if err := v.do(ctx, http.MethodGet, path+query, nil, &b); err != nil {
		return nil, err
	}
	if form == "cer" {
		if b.DER == nil {
			return nil, cli.Hint(errors.New("the certificate is pending"), "latchkey vault certificate request, which prints what to have signed")
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: b.DER}), nil
	}
	value := deref(b.Value)
	if form == "pem" {
		return []byte(value), nil
	}
	if b.ContentType != latchkey.ContentTypePFX {
		return nil, cli.Hint(errors.New("the secret of this certificate is no PFX"), "--form pem")
	}
	pfx, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return nil, errors.New("the secret of this certificate is no PFX in base64")
	}
	return pfx, nil
}

// outputFlags adds where to write to a command.
func outputFlags(cmd *cobra.Command, output *string, force *bool) {
	cmd.Flags().StringVarP(output, "output", "o", "-", "file to write, which only you can read; - is standard output")
	cmd.Flags().BoolVar(force, "force", false, "replace the file if it exists")
}

// writeOutput writes a file, or standard output for "-". Only what is public is
// shown on a terminal.
func (a *app) writeOutput(path string, content []byte, public, force bool) error {
	if path == "-" {
		if !public && cli.IsTerminal(a.Out) {
			return cli.Hint(cli.Usagef("what this writes is not for a terminal"), "--output FILE")
		}
		_, err := a.Out.Write(content)
		return err
	}
	if _, err := os.Lstat(path); err == nil && !force {
		return cli.Hint(fmt.Errorf("%s exists", path), "another name, or --force to replace it")
	}
	return writeFile(path, content, 0o600)
}

func (a *app) certificateRequest() *cobra.Command {
	return a.certificateCommand("request VAULT CERTIFICATE", "print the request for a pending certificate, as PEM, to have it signed", func(cmd *cobra.Command, v *keyVault, path string, _ []string) error {
		var o operation
		if err := v.do(cmd.Context(), http.MethodGet, path+"/pending", nil, &o); err != nil {
			return err
		}
		if a.JSON {
			return a.PrintJSON(o)
		}
		return pem.Encode(a.Out, &pem.Block{Type: "CERTIFICATE REQUEST", Bytes: o.CSR})
	})
}

func (a *app) certificateMerge() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "merge VAULT CERTIFICATE FILE",
		Short: "complete a pending certificate with what its issuer signed",
		Long: `Merge completes a pending certificate with the certificates in a file, as PEM or DER: the
one that was signed for the request, and those of its issuers.`,
		Args: cli.Exactly("VAULT", "CERTIFICATE", "FILE"), ValidArgsFunction: a.completeThenFile("certificates"),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath("certificates", args[1], "")
			if err != nil {
				return err
			}
			content, err := a.readInput(args[2], maxCertificateFile)
			if err != nil {
				return err
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				var b certificateBundle
				if err := v.do(cmd.Context(), http.MethodPost, path+"/pending/merge", map[string]any{"x5c": derCertificates(content)}, &b); err != nil {
					return err
				}
				return a.PrintOne(b, b.fields()...)
			})
		},
	}
	return cmd
}

// derCertificates returns the certificates of a file in DER.
func derCertificates(content []byte) [][]byte {
	if !latchkey.IsPEM(string(content)) {
		return [][]byte{content}
	}
	var all [][]byte
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return all
		}
		if block.Type == "CERTIFICATE" {
			all = append(all, block.Bytes)
		}
	}
}

func (a *app) certificateCancel() *cobra.Command {
	cmd := a.certificateCommand("cancel VAULT CERTIFICATE", "give up a pending certificate", func(cmd *cobra.Command, v *keyVault, path string, args []string) error {
		var o operation
		if err := v.do(cmd.Context(), http.MethodPatch, path+"/pending", map[string]bool{"cancellation_requested": true}, &o); err != nil {
			return err
		}
		return a.PrintOne(o, o.fields(args[1])...)
	})
	cmd.Flags().Bool("yes", false, "as with commands that ask; cancel does not")
	return cmd
}

func (a *app) certificatePolicy() *cobra.Command {
	var file string
	cmd := a.certificateCommand("policy VAULT CERTIFICATE", "print a certificate's policy as JSON, or change it", func(cmd *cobra.Command, v *keyVault, path string, _ []string) error {
		var p latchkey.CertificatePolicy
		method, in := http.MethodGet, any(nil)
		if file != "" {
			change, err := a.readPolicy(file)
			if err != nil {
				return err
			}
			method, in = http.MethodPatch, change
		}
		if err := v.do(cmd.Context(), method, path+"/policy", in, &p); err != nil {
			return err
		}
		return a.PrintJSON(p)
	})
	cmd.Flags().StringVar(&file, "file", "", "file with what to change, in JSON: its parts replace the policy's; - is standard input")
	return cmd
}

// certificatePlain returns a command that is one request about one certificate.
func (a *app) certificatePlain(use, short, method, collection, rest string) *cobra.Command {
	cmd := a.certificateCommand(use, short, func(cmd *cobra.Command, v *keyVault, _ string, args []string) error {
		path, err := secretPath(collection, args[1], "")
		if err != nil {
			return err
		}
		var b certificateBundle
		if err := v.do(cmd.Context(), method, path+rest, nil, &b); err != nil || b.ID == "" {
			return err
		}
		return a.PrintOne(b, b.fields()...)
	})
	cmd.ValidArgsFunction = a.completeIn(collection)
	return cmd
}

// objectBackup returns the command that backs up an object of a collection.
func (a *app) objectBackup(noun, collection string) *cobra.Command {
	var output string
	var force bool
	upper := strings.ToUpper(noun)
	cmd := &cobra.Command{
		Use:   "backup VAULT " + upper,
		Short: "write a " + noun + " with all its versions, sealed",
		Long: `Backup writes the ` + noun + ` with all its versions, at most 500, sealed by this installation: only
it can restore that, as long as it has the master key of the day. It is for moving
things between vaults; latchkey backup backs up everything.`,
		Args: cli.Exactly("VAULT", upper), ValidArgsFunction: a.completeIn(collection),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := secretPath(collection, args[1], "")
			if err != nil {
				return err
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				var blob struct {
					Value string `json:"value"`
				}
				if err := v.do(cmd.Context(), http.MethodPost, path+"/backup", nil, &blob); err != nil {
					return err
				}
				return a.writeOutput(output, []byte(blob.Value+"\n"), true, force)
			})
		},
	}
	outputFlags(cmd, &output, &force)
	return cmd
}

// objectRestore returns the command that restores an object of a collection.
func (a *app) objectRestore(noun, collection string) *cobra.Command {
	return &cobra.Command{
		Use:   "restore VAULT FILE",
		Short: "bring a " + noun + " into a vault from a backup; its name must be free",
		Args:  cli.Exactly("VAULT", "FILE"), ValidArgsFunction: positions(a.completeVaults(), completeFiles),
		RunE: func(cmd *cobra.Command, args []string) error {
			blob, err := a.readInput(args[1], maxVaultAnswer)
			if err != nil {
				return err
			}
			return a.inVault(cmd.Context(), args[0], func(v *keyVault) error {
				var b certificateBundle
				in := map[string]string{"value": string(bytes.TrimSpace(blob))}
				if err := v.do(cmd.Context(), http.MethodPost, "/"+collection+"/restore", in, &b); err != nil {
					return err
				}
				if collection == "secrets" {
					return a.PrintOne(shownSecret{b.secretBundle}, b.secretBundle.fields()...)
				}
				return a.PrintOne(b, b.fields()...)
			})
		},
	}
}
