package keyvault

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"latchkey.dev/internal/broker"
	"latchkey.dev/latchkey"
)

// maxResults is the most items that one answer lists, and the default (AKV).
const maxResults = 25

// secrets answers requests below /secrets.
func (c *call) secrets(ctx context.Context) (any, error) {
	p, method := c.path, c.method
	switch {
	case p.name == "":
		if method != http.MethodGet {
			return nil, badMethod()
		}
		return c.listSecrets(ctx)
	case p.more != "":
		return nil, noSuchPath()
	case method == http.MethodPost && strings.EqualFold(p.name, "restore") && p.rest == "":
		return c.restoreSecret(ctx)
	}
	if latchkey.CheckSecretName(p.name) != nil {
		return nil, badName(p.name)
	}
	switch {
	case p.is("versions"):
		if method != http.MethodGet {
			return nil, badMethod()
		}
		return c.secretVersions(ctx)
	case p.is("backup"):
		if method != http.MethodPost {
			return nil, badMethod()
		}
		blob, err := c.broker.BackupSecret(ctx, c.who, c.vault, p.name)
		return backup{blob}, err
	}
	if err := c.wantVersion(); err != nil {
		return nil, err
	}
	switch {
	case method == http.MethodGet:
		return c.getSecret(ctx)
	case method == http.MethodPatch:
		return c.updateSecret(ctx)
	case method == http.MethodPut && p.rest == "":
		return c.setSecret(ctx)
	case method == http.MethodDelete && p.rest == "":
		return c.deleteSecret(ctx)
	}
	return nil, badMethod()
}

// deletedSecrets answers requests below /deletedsecrets.
func (c *call) deletedSecrets(ctx context.Context) (any, error) {
	p := c.path
	if p.name == "" {
		if c.method != http.MethodGet {
			return nil, badMethod()
		}
		return c.listDeletedSecrets(ctx)
	}
	if latchkey.CheckSecretName(p.name) != nil {
		return nil, badName(p.name)
	}
	if p.more != "" {
		return nil, noSuchPath()
	}
	switch {
	case p.rest == "" && c.method == http.MethodGet:
		s, err := c.broker.DeletedSecret(ctx, c.who, c.vault, p.name)
		if err != nil {
			return nil, err
		}
		// AKV: this is refused for a disabled secret, although it gives no value.
		if !s.Enabled {
			return nil, disabled()
		}
		return c.bundle(s, true), nil
	case p.rest == "" && c.method == http.MethodDelete:
		return nil, c.broker.PurgeSecret(ctx, c.who, c.vault, p.name)
	case p.is("recover") && c.method == http.MethodPost:
		s, err := c.broker.RecoverSecret(ctx, c.who, c.vault, p.name)
		return c.bundle(s, true), err
	case p.rest != "" && !p.is("recover"):
		return nil, noSuchPath()
	}
	return nil, badMethod()
}

func (c *call) setSecret(ctx context.Context) (any, error) {
	var req secretSet
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	if req.Value == nil {
		return nil, badParameter("Property has invalid value\r\nvalue must be given\r\n")
	}
	a := latchkey.SecretAttributes{ContentType: req.ContentType, Enabled: true, Tags: req.Tags}
	if req.Attributes.Enabled != nil {
		a.Enabled = *req.Attributes.Enabled
	}
	var err error
	if a.NotBefore, err = instant("nbf", req.Attributes.NotBefore); err != nil {
		return nil, err
	}
	if a.Expires, err = instant("exp", req.Attributes.Expires); err != nil {
		return nil, err
	}
	s, err := c.broker.SetSecret(ctx, c.who, c.vault, c.path.name, latchkey.NewSecret(*req.Value), a)
	if err != nil {
		return nil, err
	}
	b := c.bundle(s, true)
	b.Value = req.Value
	return b, nil
}

func (c *call) getSecret(ctx context.Context) (any, error) {
	s, value, err := c.broker.Secret(ctx, c.who, c.vault, c.path.name, c.path.rest)
	if err != nil {
		return nil, err
	}
	b := c.bundle(s, true)
	if c.since2025() && s.Managed {
		b.PreviousVersion = s.PreviousVersion
	}
	if value, b.ContentType, err = c.converted(s, value); err != nil {
		return nil, err
	}
	b.Value = new(value.Reveal())
	return b, nil
}

// converted returns a value in the form that the request asks for, with its
// content type (AKV: of certificates' secrets, PFX can be had as PEM).
func (c *call) converted(s latchkey.VaultSecret, value latchkey.Secret) (latchkey.Secret, string, error) {
	want := parameter(c.query, "outContentType")
	if want == "" || !c.since2025() || strings.EqualFold(want, s.ContentType) {
		return value, s.ContentType, nil
	}
	if !s.Managed || s.ContentType != latchkey.ContentTypePFX || !strings.EqualFold(want, latchkey.ContentTypePEM) {
		return value, "", badParameter("The parameter outContentType can only be %s, for the secret of a certificate that is kept as %s.", latchkey.ContentTypePEM, latchkey.ContentTypePFX)
	}
	value, err := broker.PEMOfPFX(value)
	return value, latchkey.ContentTypePEM, err
}

func (c *call) restoreSecret(ctx context.Context) (any, error) {
	var req backup
	if err := c.decodeBackup(ctx, &req, latchkey.VaultSecrets); err != nil {
		return nil, err
	}
	s, err := c.broker.RestoreSecret(ctx, c.who, c.vault, req.Value)
	return c.bundle(s, true), err
}

func (c *call) updateSecret(ctx context.Context) (any, error) {
	var req secretUpdate
	if err := c.decode(&req); err != nil {
		return nil, err
	}
	u := broker.SecretUpdate{ContentType: req.ContentType, Enabled: req.Attributes.Enabled, Tags: req.Tags}
	var err error
	if u.NotBefore, err = instant("nbf", req.Attributes.NotBefore); err != nil {
		return nil, err
	}
	if u.Expires, err = instant("exp", req.Attributes.Expires); err != nil {
		return nil, err
	}
	s, err := c.broker.UpdateSecret(ctx, c.who, c.vault, c.path.name, c.path.rest, u)
	return c.bundle(s, true), err
}

func (c *call) deleteSecret(ctx context.Context) (any, error) {
	s, err := c.broker.DeleteSecret(ctx, c.who, c.vault, c.path.name)
	return c.bundle(s, true), err
}

func (c *call) listSecrets(ctx context.Context) (any, error) {
	o, err := c.page()
	if err != nil {
		return nil, err
	}
	p, err := c.broker.Secrets(ctx, c.who, c.vault, o)
	return c.list(p, o, false), err
}

func (c *call) listDeletedSecrets(ctx context.Context) (any, error) {
	o, err := c.page()
	if err != nil {
		return nil, err
	}
	p, err := c.broker.DeletedSecrets(ctx, c.who, c.vault, o)
	return c.list(p, o, false), err
}

func (c *call) secretVersions(ctx context.Context) (any, error) {
	o, err := c.page()
	if err != nil {
		return nil, err
	}
	p, err := c.broker.SecretVersions(ctx, c.who, c.vault, c.path.name, o)
	return c.list(p, o, true), err
}

// maxToken bounds the token that continues a list.
const maxToken = 1 << 10

// page returns which part of a list is asked for.
func (c *call) page() (latchkey.PageOptions, error) {
	o := latchkey.PageOptions{After: parameter(c.query, "$skiptoken"), Limit: maxResults}
	if o.After != "" && (len(o.After) > maxToken || !broker.IsCursor(o.After)) {
		return o, badParameter("The parameter $skiptoken is not valid.")
	}
	if s := parameter(c.query, "maxresults"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxResults {
			return o, badParameter("The parameter maxresults must be from 1 to %d.", maxResults)
		}
		o.Limit = n
	}
	return o, nil
}

func (c *call) list(p latchkey.Page[latchkey.VaultSecret], o latchkey.PageOptions, versioned bool) list[secretBundle] {
	l := list[secretBundle]{Value: make([]secretBundle, 0, len(p.Items)), NextLink: c.next(p.Next, o)}
	for _, s := range p.Items {
		l.Value = append(l.Value, c.bundle(s, versioned))
	}
	return l
}

// next returns the address of the next page of the call's list, or nil.
func (c *call) next(token string, o latchkey.PageOptions) *string {
	if token == "" {
		return nil
	}
	next := c.base() + "/" + c.path.kind
	if c.path.name != "" {
		next += "/" + c.path.name
	}
	if c.path.rest != "" {
		next += "/" + c.path.rest
	}
	next += "?api-version=" + url.QueryEscape(c.version) + "&$skiptoken=" + url.QueryEscape(token) + "&maxresults=" + strconv.Itoa(o.Limit)
	return &next
}
