package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

const (
	proofPrefix       = "proof: "
	proofInput        = "CHALLENGE"
	inputVariable     = "LATCHKEY_INPUT_"
	credentialsFD     = "LATCHKEY_CREDENTIALS_FD"
	maxHandedOver     = 1 << 20
	proofCommandName  = "quickstart-proof"
	maxProofChallenge = 200
)

// proofCommand is the flow of quickstart. It shows that it got the right user
// name and password without showing either.
func (a *app) proofCommand() *cobra.Command {
	return &cobra.Command{
		Use: proofCommandName, Hidden: true, Args: cli.Exactly(),
		Short: "the flow of quickstart: prove that the credential arrived",
		RunE: func(*cobra.Command, []string) error {
			challenge := a.Getenv(inputVariable + proofInput)
			fd, err := strconv.Atoi(a.Getenv(credentialsFD))
			if err != nil || fd < 3 || challenge == "" || len(challenge) > maxProofChallenge {
				return errors.New("this is the flow of latchkey quickstart: it runs under an agent only")
			}
			f := os.NewFile(uintptr(fd), "credentials")
			if f == nil {
				return errors.New("the descriptor of the credentials is not open")
			}
			defer f.Close()
			b, err := readAll(f, maxHandedOver, "what the agent handed over")
			if err != nil {
				return err
			}
			var creds map[string]struct {
				Username string `json:"username"`
				Password string `json:"password"`
			}
			if err := json.Unmarshal(b, &creds); err != nil {
				return errors.New("what the agent handed over is not valid JSON") // err may quote it
			}
			c, ok := creds["connection"]
			if !ok {
				return errors.New("the agent handed over no credential of the connection")
			}
			fmt.Fprintln(a.Out, proofPrefix+proof(challenge, c.Username, latchkey.NewSecret(c.Password)))
			return nil
		},
	}
}

// proof is a digest that only who knows user name and password can make. The
// challenge makes it good for one run.
func proof(challenge, username string, password latchkey.Secret) string {
	m := hmac.New(sha256.New, []byte(challenge))
	m.Write([]byte(username + "\n" + password.Reveal()))
	return hex.EncodeToString(m.Sum(nil))
}
