package server

import (
	"context"

	"latchkey.dev/latchkey"
)

type doctorIn struct {
	Environment string `query:"environment" doc:"id or name; without it the whole installation"`
}

func (s *server) doctor(ctx context.Context, who latchkey.Caller, in *doctorIn) (*one[latchkey.DoctorReport], error) {
	r, err := s.b.Doctor(ctx, who, in.Environment)
	if err == nil && in.Environment == "" && s.Host != nil {
		r.Findings = append(s.Host(), r.Findings...)
	}
	latchkey.SortFindings(r.Findings)
	return show(r, err)
}
