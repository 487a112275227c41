package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/agent"
	"latchkey.dev/internal/cli"
)

func (a *app) versionCommand() *cobra.Command {
	var check bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "show the program's version",
		Long: `Version shows the version of this program. With --check it asks the server for its own as
well, and ends with 1 if the two differ.`,
		Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := map[string]string{"version": agent.Version(), "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
			if check {
				var err error
				if v["server"], err = a.serverVersion(cmd.Context()); err != nil {
					return err
				}
			}
			if err := a.PrintOne(v, cli.Field{"Version", v["version"]}, cli.Field{"Go", v["go"]}, cli.Field{"Platform", v["platform"]}, cli.Field{"Server", v["server"]}); err != nil {
				return err
			}
			if check && v["server"] != v["version"] {
				return fmt.Errorf("the server has version %s and this program %s", v["server"], v["version"])
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&check, "check", false, "compare it with the server's version")
	return cmd
}

// serverVersion returns the version of the server, which need not know the
// caller.
func (a *app) serverVersion(ctx context.Context) (string, error) {
	to, err := a.connect()
	if err != nil {
		return "", err
	}
	c, err := to.client()
	if err != nil {
		return "", err
	}
	doc, err := c.OpenAPI(ctx)
	if err != nil {
		return "", err
	}
	var about struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	if json.Unmarshal(doc, &about) != nil || about.Info.Version == "" {
		return "", errors.New("the server does not say its version: it is no Latchkey server")
	}
	return about.Info.Version, nil
}
