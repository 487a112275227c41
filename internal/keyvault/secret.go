package keyvault

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

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
	case method == http.MethodPost && (p.name == "restore" && p.rest == "" || p.rest == "backup"):
		return nil, notImplemented("backup and restore")
	}
	if latchkey.CheckSecretName(p.name) != nil {
		return nil, badName(p.name)
	}
	if p.rest == "versions" {
		if method != http.MethodGet {
			return nil, badMethod()
		}
		return c.secretVersions(ctx)
	}
	if p.rest != "" {
		version, ok := versionID(p.rest)
		if !ok {
			return nil, badParameter("The request URI contains an invalid version: %s", p.rest)
		}
		c.path.rest = version
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
	case p.rest == "recover" && c.method == http.MethodPost:
		s, err := c.broker.RecoverSecret(ctx, c.who, c.vault, p.name)
		return c.bundle(s, true), err
	case p.rest != "" && p.rest != "recover":
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
	b.Value = new(value.Reveal())
	return b, nil
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
	if len(o.After) > maxToken {
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

func (c *call) list(p latchkey.Page[latchkey.VaultSecret], o latchkey.PageOptions, versioned bool) secretList {
	l := secretList{Value: make([]secretBundle, 0, len(p.Items))}
	for _, s := range p.Items {
		l.Value = append(l.Value, c.bundle(s, versioned))
	}
	if p.Next != "" {
		next := c.base() + "/" + c.path.kind
		if versioned {
			next += "/" + c.path.name + "/versions"
		}
		next += "?api-version=" + url.QueryEscape(c.version) + "&$skiptoken=" + url.QueryEscape(p.Next) + "&maxresults=" + strconv.Itoa(o.Limit)
		l.NextLink = &next
	}
	return l
}
