package server

import (
	"context"

	"latchkey.dev/latchkey"
)

type changesIn struct {
	InEnv
	Since string `query:"since" maxLength:"100" doc:"cursor of the answer before; without it the answer is a cursor, at once"`
	Wait  string `query:"wait" example:"30s" doc:"how long to wait for a change: 30s unless given, at most 45s"`
}

func (s *server) changes(ctx context.Context, who latchkey.Caller, in *changesIn) (*one[latchkey.Changes], error) {
	wait, err := parseWait(in.Wait, latchkey.MaxClaimWait, latchkey.MaxChangesWait)
	if err != nil {
		return nil, err
	}
	return show(s.b.Changes(ctx, who, in.Env, in.Since, wait))
}

func (s *server) attention(ctx context.Context, who latchkey.Caller, in *inEnv) (*one[latchkey.Attention], error) {
	return show(s.b.Attention(ctx, who, in.Env))
}

type activityIn struct {
	InEnv
	Days int `query:"days" minimum:"1" maximum:"90" doc:"how many, today included: 14 unless given"`
}

func (s *server) activity(ctx context.Context, who latchkey.Caller, in *activityIn) (*one[latchkey.Activity], error) {
	return show(s.b.Activity(ctx, who, in.Env, in.Days))
}

type findIn struct {
	InEnv
	Text string `query:"q" required:"true" maxLength:"100" doc:"part of a name, in any case"`
	Max  int    `query:"max" minimum:"1" maximum:"20" doc:"how many at most: 20 unless given"`
}

func (s *server) find(ctx context.Context, who latchkey.Caller, in *findIn) (*listOf[latchkey.Found], error) {
	found, err := s.b.Find(ctx, who, in.Env, in.Text, in.Max)
	return list(latchkey.Page[latchkey.Found]{Items: found}, err)
}
