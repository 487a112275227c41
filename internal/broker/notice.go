package broker

import (
	"context"

	"latchkey.dev/latchkey"
)

// tell notes something for a principal, about a thing.
func (o *op) tell(to latchkey.PrincipalID, t thing, message string) error {
	return o.CreateNotice(to, latchkey.Notice{Environment: t.env, Kind: t.kind, Subject: t.id, Name: t.name, Message: message})
}

// Notices lists what the caller was told and has not put away, oldest first.
func (b *Broker) Notices(ctx context.Context, who latchkey.Caller, page latchkey.PageOptions) (p latchkey.Page[latchkey.Notice], err error) {
	err = b.view(ctx, who, func(o *op) error {
		p, err = o.Notices(who.ID, page)
		return err
	})
	return p, err
}

// DismissNotice puts one of the caller's notices away.
func (b *Broker) DismissNotice(ctx context.Context, who latchkey.Caller, id latchkey.NoticeID) error {
	return b.update(ctx, who, func(o *op) error {
		return found(o.DeleteNotice(who.ID, id), latchkey.KindNotice)
	})
}
