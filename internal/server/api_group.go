package server

import (
	"context"

	"latchkey.dev/latchkey"
)

// InGroup is the part of a request that names a group.
type InGroup struct {
	Group string `path:"group" doc:"id or name of the group"`
}

type groupIn struct{ InGroup }

type groupCreateIn struct{ Body latchkey.GroupCreate }

type groupUpdateIn struct {
	InGroup
	Body latchkey.GroupUpdate
}

type groupMembersIn struct {
	InGroup
	Paging
}

type groupMemberIn struct {
	InGroup
	Principal string `path:"principal" doc:"id of a user, group or service principal, a user's login or a group's name"`
}

type directoryIn struct {
	InEnv
	Paging
	Prefix string `query:"prefix" maxLength:"100" doc:"what the name or the login begins with"`
}

func (s *server) groups(ctx context.Context, who latchkey.Caller, in *searchIn) (*listOf[latchkey.Group], error) {
	return list(s.b.Groups(ctx, who, in.options()))
}

func (s *server) createGroup(ctx context.Context, who latchkey.Caller, in *groupCreateIn) (*created[latchkey.Group], error) {
	g, err := s.b.CreateGroup(ctx, who, in.Body)
	return at(g, "groups", string(g.ID)), err
}

func (s *server) group(ctx context.Context, who latchkey.Caller, in *groupIn) (*one[latchkey.Group], error) {
	return show(s.b.Group(ctx, who, in.Group))
}

func (s *server) updateGroup(ctx context.Context, who latchkey.Caller, in *groupUpdateIn) (*one[latchkey.Group], error) {
	return show(s.b.UpdateGroup(ctx, who, in.Group, in.Body))
}

func (s *server) deleteGroup(ctx context.Context, who latchkey.Caller, in *groupIn) (*none, error) {
	return done(s.b.DeleteGroup(ctx, who, in.Group))
}

func (s *server) groupMembers(ctx context.Context, who latchkey.Caller, in *groupMembersIn) (*listOf[latchkey.DirectoryEntry], error) {
	return list(s.b.GroupMembers(ctx, who, in.Group, in.options()))
}

func (s *server) addGroupMember(ctx context.Context, who latchkey.Caller, in *groupMemberIn) (*none, error) {
	return done(s.b.AddGroupMember(ctx, who, in.Group, in.Principal))
}

func (s *server) removeGroupMember(ctx context.Context, who latchkey.Caller, in *groupMemberIn) (*none, error) {
	return done(s.b.RemoveGroupMember(ctx, who, in.Group, in.Principal))
}

func (s *server) directory(ctx context.Context, who latchkey.Caller, in *directoryIn) (*listOf[latchkey.DirectoryEntry], error) {
	return list(s.b.Directory(ctx, who, in.Env, in.Prefix, in.options()))
}

type noticeIn struct {
	ID latchkey.NoticeID `path:"id" doc:"id of the notice"`
}

func (s *server) notices(ctx context.Context, who latchkey.Caller, in *listIn) (*listOf[latchkey.Notice], error) {
	return list(s.b.Notices(ctx, who, in.options()))
}

func (s *server) dismissNotice(ctx context.Context, who latchkey.Caller, in *noticeIn) (*none, error) {
	return done(s.b.DismissNotice(ctx, who, in.ID))
}
