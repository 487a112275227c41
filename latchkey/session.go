package latchkey

import "time"

// SessionIdle is how long a browser's session may be out of use, unless the server
// is told otherwise.
const SessionIdle = time.Hour

// Limits of the idle time of browsers' sessions.
const (
	MinSessionIdle = time.Minute
	MaxSessionIdle = SignInTokenTTL
)

// A Session is what signing in began, in a browser or for a program.
type Session struct {
	ID         TokenID    `json:"id"`
	Method     string     `json:"method" doc:"how it was begun: password, passkey, link, setup, service-principal, or oidc: with the provider's id"`
	Address    string     `json:"address" doc:"network address that it was begun from"`
	Client     string     `json:"client" doc:"the browser or program, as it names itself"`
	Current    bool       `json:"current" doc:"is the session of this very request"`
	StartedAt  time.Time  `json:"startedAt"`
	LastUsedAt *time.Time `json:"lastUsedAt,omitempty" doc:"to about a minute"`
	ExpiresAt  time.Time  `json:"expiresAt" doc:"when it ends, however much it is used"`
}

// EndedSessions says how many sessions were ended.
type EndedSessions struct {
	Ended int `json:"ended"`
}
