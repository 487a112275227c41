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

// MaxPasskeys is how many passkeys a user has at most.
const MaxPasskeys = 20

// A Passkey is a public key by which a user signs in; its private key never leaves
// the user's device or password manager.
type Passkey struct {
	ID         PasskeyID  `json:"id"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"createdAt"`
	LastUsedAt *time.Time `json:"lastUsedAt,omitempty"`
}

// OwnProofs are the ways in which a user signs in here.
type OwnProofs struct {
	Password bool      `json:"password" doc:"the account has a password"`
	Passkeys []Passkey `json:"passkeys" nullable:"false" doc:"the oldest first"`
}
