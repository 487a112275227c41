package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	// What is tested: go.mod has the versions, and what their tests need.
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	_ "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// A suite is the tests of one client for Go. Those in live talk to a vault; the
// others are about the client alone.
type suite struct {
	name string
	live []string
}

const clients = "github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/"

var suites = []suite{
	{"azsecrets", []string{"TestBackupRestore", "TestCRUD", "TestListDeletedSecrets", "TestListSecretVersions", "TestListSecrets", "TestRecover"}},
	{"azcertificates", []string{
		"TestBackupRestore", "TestCRUD", "TestContactsCRUD", "TestDeleteRecover", "TestImportCertificate", "TestIssuerCRUD",
		"TestListCertificateVersions", "TestListCertificates", "TestMergeCertificate", "TestOperationCRUD", "TestSubjectAlternativeNames",
		"TestUpdateCertificatePolicy",
	}},
}

// An event is a line that go test -json prints.
type event struct {
	Action, Test, Output string
}

// test runs the tests of a client and returns the counts, and whether all
// passed that should have run.
func (p *program) test(ctx context.Context, s suite, vault string) (line string, ok bool, err error) {
	cmd := p.admin(ctx, "vault", "env", "--", "go", "test", "-count=1", "-json", clients+s.name)
	cmd.Env = append(os.Environ(), "AZURE_RECORD_MODE=live", "AZURE_KEYVAULT_URL="+vault, "CGO_ENABLED=0", "GOFLAGS=")
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", false, err
	}
	if err := cmd.Start(); err != nil {
		return "", false, err
	}
	outcome := map[string]string{}          // by the name of a test
	output := map[string]*strings.Builder{} // the same; "" is the package
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			continue // of the compiler, which also writes to standard error
		}
		test, _, sub := strings.Cut(e.Test, "/")
		if output[test] == nil {
			output[test] = new(strings.Builder)
		}
		output[test].WriteString(e.Output)
		if test != "" && !sub && slices.Contains([]string{"pass", "fail", "skip"}, e.Action) {
			outcome[test] = e.Action
		}
	}
	failed := errors.Join(lines.Err(), cmd.Wait()) // go test fails with a test
	passed, others := 0, 0
	for test, o := range outcome {
		live := slices.Contains(s.live, test)
		switch {
		case o == "pass" && live:
			passed++
		case o == "pass":
			others++
		case o == "fail":
			fmt.Print(output[test])
		}
	}
	for _, test := range s.live {
		if o := outcome[test]; o != "pass" {
			fmt.Printf("%s %s: %s\n", s.name, test, cmp.Or(o, "did not run"))
		}
	}
	if failed != nil && len(outcome) == 0 && output[""] != nil {
		fmt.Print(output[""])
	}
	return fmt.Sprintf("%s %d of %d live tests passed, and %d others", s.name, passed, len(s.live), others),
		failed == nil && passed == len(s.live), nil
}
