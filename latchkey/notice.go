package latchkey

import "time"

// NoticeTTL is how long a notice is kept that nobody puts away.
const NoticeTTL = 90 * 24 * time.Hour

// A Notice tells a principal of something that others did with what is its own.
type Notice struct {
	ID          NoticeID      `json:"id"`
	At          time.Time     `json:"at"`
	Environment EnvironmentID `json:"environment,omitempty"`
	Kind        Kind          `json:"kind" doc:"of the thing"`
	Subject     string        `json:"subject" doc:"the thing's id"`
	Name        string        `json:"name" doc:"the thing's name then"`
	Message     string        `json:"message"`
}
