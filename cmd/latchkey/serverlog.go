package main

import (
	"log/slog"
	"net/url"
)

func logLevel(name string) (slog.Level, error) {
	var l slog.Level
	err := l.UnmarshalText([]byte(name))
	return l, err
}

// newLog returns the log that a configuration asks for.
func newLog(c serverConfig) (*slog.Logger, error) {
	level, err := logLevel(c.LogLevel)
	if err != nil {
		return nil, err
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(c.Out, o)), nil
	}
	return slog.New(slog.NewTextHandler(c.Out, o)), nil
}

func hasScheme(address, scheme string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Scheme == scheme
}
