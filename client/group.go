package client

import (
	"context"
	"iter"
	"net/http"

	"latchkey.dev/latchkey"
)

// Groups lists the groups that the caller may see.
func (c *Client) Groups(ctx context.Context, o ...ListOption) iter.Seq2[latchkey.Group, error] {
	return list[latchkey.Group](ctx, c, join("groups"), options(nil, o))
}

// Group returns the group with an id or a name.
func (c *Client) Group(ctx context.Context, group string) (latchkey.Group, error) {
	return call[latchkey.Group](ctx, c, http.MethodGet, join("groups", group), nil)
}

// CreateGroup makes a group that nobody is in.
func (c *Client) CreateGroup(ctx context.Context, in latchkey.GroupCreate) (latchkey.Group, error) {
	return call[latchkey.Group](ctx, c, http.MethodPost, join("groups"), in)
}

// UpdateGroup changes what is not nil in in.
func (c *Client) UpdateGroup(ctx context.Context, group string, in latchkey.GroupUpdate) (latchkey.Group, error) {
	return call[latchkey.Group](ctx, c, http.MethodPatch, join("groups", group), in)
}

// DeleteGroup removes a group.
func (c *Client) DeleteGroup(ctx context.Context, group string) error {
	return c.do(ctx, http.MethodDelete, join("groups", group), nil, nil, nil)
}

// GroupMembers lists who is in a group by itself.
func (c *Client) GroupMembers(ctx context.Context, group string) iter.Seq2[latchkey.DirectoryEntry, error] {
	return list[latchkey.DirectoryEntry](ctx, c, join("groups", group, "members"), nil)
}

// AddGroupMember puts a principal into a group: the id of a user, a service
// principal or a group, a user's login or a group's name.
func (c *Client) AddGroupMember(ctx context.Context, group, principal string) error {
	return c.do(ctx, http.MethodPut, join("groups", group, "members", principal), nil, nil, nil)
}

// RemoveGroupMember takes a principal out of a group.
func (c *Client) RemoveGroupMember(ctx context.Context, group, principal string) error {
	return c.do(ctx, http.MethodDelete, join("groups", group, "members", principal), nil, nil, nil)
}

// Notices lists what the caller was told and has not put away, oldest first.
func (c *Client) Notices(ctx context.Context) iter.Seq2[latchkey.Notice, error] {
	return list[latchkey.Notice](ctx, c, join("me", "notices"), nil)
}

// DismissNotice puts one of the caller's notices away.
func (c *Client) DismissNotice(ctx context.Context, id latchkey.NoticeID) error {
	return c.do(ctx, http.MethodDelete, join("me", "notices", string(id)), nil, nil, nil)
}
