package server

import (
	"context"

	"latchkey.dev/latchkey"
)

type doctorIn struct {
	Environment string `query:"environment" doc:"id or name; without it the whole installation"`
	Offline     bool   `query:"offline" doc:"ask nothing over the network: no vault, and not Azure"`
}

func (s *server) doctor(ctx context.Context, who latchkey.Caller, in *doctorIn) (*one[latchkey.DoctorReport], error) {
	r, err := s.b.Doctor(ctx, who, latchkey.DoctorOptions{Environment: in.Environment, Offline: in.Offline})
	if err == nil && in.Environment == "" && s.Host != nil {
		r.Findings = append(s.Host(), r.Findings...)
	}
	latchkey.SortFindings(r.Findings)
	return show(r, err)
}
