package latchkey

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write golden files")

// faultsOf returns the fields that err names.
func faultsOf(err error) []string {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return nil
	}
	var fields []string
	for _, f := range e.Fields {
		fields = append(fields, f.Field)
	}
	slices.Sort(fields)
	return fields
}

func text(s string) *string { return &s }

var goodReference = SecretReference{"00000000-0000-0000-0000-000000000001", "rg", "erp-vault", "erp-password"}

func TestVariableCreate(t *testing.T) {
	long := strings.Repeat("x", 101)
	tests := []struct {
		name string
		in   VariableCreate
		want []string // fields at fault
	}{
		{"text", VariableCreate{DisplayName: "ERP user", Type: TypeText, Value: text(`CONTOSO\bot`)}, nil},
		{"secret", VariableCreate{DisplayName: "ERP password", Type: TypeSecret, Secret: &goodReference}, nil},
		{"secret as ARM id", VariableCreate{DisplayName: "ERP password", Type: TypeSecret, Value: text(goodReference.String())}, nil},
		{"empty", VariableCreate{Type: TypeText}, []string{"displayName"}},
		{"long", VariableCreate{DisplayName: long, Type: TypeText}, []string{"displayName"}},
		{"control", VariableCreate{DisplayName: "a\x00b", Type: TypeText}, []string{"displayName"}},
		{"bidi override", VariableCreate{DisplayName: "a\u202eb", Type: TypeText}, []string{"displayName"}},
		{"white space", VariableCreate{DisplayName: " a", Type: TypeText}, []string{"displayName"}},
		{"no letters for a name", VariableCreate{DisplayName: "密码", Type: TypeText}, []string{"name"}},
		{"wrong prefix", VariableCreate{DisplayName: "a", Name: "abc_x", Type: TypeText}, []string{"name"}},
		{"name with a space", VariableCreate{DisplayName: "a", Name: "new_a b", Type: TypeText}, []string{"name"}},
		{"no type", VariableCreate{DisplayName: "a"}, []string{"type"}},
		{"bad number", VariableCreate{DisplayName: "a", Type: TypeNumber, Value: text("1e3")}, []string{"value"}},
		{"good number", VariableCreate{DisplayName: "a", Type: TypeNumber, Value: text("-1.5")}, nil},
		{"bad boolean", VariableCreate{DisplayName: "a", Type: TypeBoolean, Value: text("yes")}, []string{"value"}},
		{"bad json", VariableCreate{DisplayName: "a", Type: TypeJSON, DefaultValue: text("{")}, []string{"defaultValue"}},
		{"long value", VariableCreate{DisplayName: "a", Type: TypeText, Value: text(strings.Repeat("x", 2001))}, []string{"value"}},
		{"reference for text", VariableCreate{DisplayName: "a", Type: TypeText, Secret: &goodReference}, []string{"secret"}},
		{"secret without reference", VariableCreate{DisplayName: "a", Type: TypeSecret}, []string{"secret"}},
		{"both", VariableCreate{DisplayName: "a", Type: TypeSecret, Value: text(goodReference.String()), Secret: &goodReference}, []string{"secret"}},
		{"every part wrong", VariableCreate{DisplayName: "a", Type: TypeSecret, Secret: &SecretReference{"x", "a/b", "https://v.vault.azure.net/", "a/b"}},
			[]string{"secret.resourceGroup", "secret.secret", "secret.subscriptionId", "secret.vault"}},
		{"everything at once", VariableCreate{DisplayName: "", Name: "x", Type: "y"}, []string{"displayName", "name", "type"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, faultsOf(tt.in.Validate("new"))); diff != "" {
				t.Errorf("fields at fault (-want +got):\n%s", diff)
			}
		})
	}
	c := VariableCreate{DisplayName: "ERP user", Type: TypeText}
	if err := c.Validate("new"); err != nil || c.Name != "new_ERPuser" {
		t.Errorf("name = %q, %v; want new_ERPuser", c.Name, err)
	}
}

func TestReferenceHints(t *testing.T) {
	tests := []struct {
		in   string
		want string // in the error; "" is no error
	}{
		{goodReference.String(), ""},
		{strings.ToUpper(goodReference.String()), ""},
		{goodReference.String() + "/0123456789abcdef0123456789abcdef", "never names a version"},
		{"https://erp-vault.vault.azure.net/secrets/erp-password", "not an ARM id"},
		{goodReference.VaultRef().String(), "add /secrets/"},
		{"/subscriptions/x", "must have the form"},
		{strings.Repeat("/x", 600), "at most 1000 bytes"},
		{"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/a..b/secrets/s", "host name"},
		{"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/ab-/secrets/s", "3 to 24"},
		{"/subscriptions/00000000-0000-0000-0000-000000000001/resourceGroups/rg/providers/Microsoft.KeyVault/vaults/abc/secrets/s%2F..", "1 to 127"},
	}
	for _, tt := range tests {
		_, err := ParseSecretReference(tt.in)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("ParseSecretReference(%.60q…) = %v; want an error with %q", tt.in, err, tt.want)
		}
	}
}

func TestCheckResourceGroup(t *testing.T) {
	for s, want := range map[string]bool{
		"rg": true, "R_g-1.(2)": true, "groupe-été-٣": true, strings.Repeat("é", 90): true,
		"": false, strings.Repeat("r", 91): false, "rg.": false, "a b": false, "a/b": false, "a%b": false, "a\xff": false,
	} {
		if err := checkResourceGroup(s); (err == nil) != want {
			t.Errorf("checkResourceGroup(%q) = %v; want it valid: %t", s, err, want)
		}
	}
}

func FuzzParseSecretReference(f *testing.F) {
	f.Add(goodReference.String())
	f.Add(goodReference.String() + "/v")
	f.Add("https://x.vault.azure.net/secrets/y")
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseSecretReference(s)
		if err != nil {
			return
		}
		again, err := ParseSecretReference(r.String())
		if err != nil || again != r {
			t.Errorf("%q parses as %+v, which prints as %q and parses as %+v, %v", s, r, r.String(), again, err)
		}
		if strings.ContainsAny(r.Vault+r.Secret, "/.%?#@: ") {
			t.Errorf("%q has a vault or secret name that can steer an address: %+v", s, r)
		}
	})
}

func FuzzValidate(f *testing.F) {
	f.Add("ERP user", "new_x", "text", "v")
	f.Fuzz(func(t *testing.T, display, name, typ, value string) {
		v := VariableCreate{DisplayName: display, Name: name, Type: VariableType(typ), Value: &value}
		if v.Validate("new") == nil && (len(v.Name) > MaxName || !strings.HasPrefix(v.Name, "new_")) {
			t.Errorf("valid with name %q", v.Name)
		}
		fl := FlowCreate{Name: name, Command: []string{display, value}}
		if fl.Validate() == nil && !strings.HasPrefix(display, "/") && display[1] != ':' {
			t.Errorf("valid with the relative program %q", display)
		}
		r := RunCreate{Flow: FlowID(name), Inputs: map[string]string{display: value}}
		_ = r.Validate()
		var d Duration
		_ = d.UnmarshalText([]byte(value))
	})
}

func TestFlowCreate(t *testing.T) {
	tests := []struct {
		name string
		in   FlowCreate
		want []string
	}{
		{"good", FlowCreate{Name: "f", Command: []string{"/usr/bin/env", "true"}}, nil},
		{"windows", FlowCreate{Name: "f", Command: []string{`C:\bots\a.exe`}}, nil},
		{"no command", FlowCreate{Name: "f"}, []string{"command"}},
		{"relative", FlowCreate{Name: "f", Command: []string{"env"}}, []string{"command"}},
		{"not clean", FlowCreate{Name: "f", Command: []string{"/usr/bin/../bin/env"}}, []string{"command"}},
		{"NUL", FlowCreate{Name: "f", Command: []string{"/bin/a", "a\x00b"}}, []string{"command"}},
		{"timeout", FlowCreate{Name: "f", Command: []string{"/bin/a"}, Timeout: Duration(25 * time.Hour)}, []string{"timeout"}},
		{"handover", FlowCreate{Name: "f", Command: []string{"/bin/a"}, Handover: "argument"}, []string{"handover"}},
		{"credentials without handover", FlowCreate{Name: "f", Command: []string{"/bin/a"}, Credentials: []CredentialID{CredentialID(NewID("cred", time.Now()))}}, []string{"handover"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, faultsOf(tt.in.Validate())); diff != "" {
				t.Errorf("fields at fault (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	p := Policy{Commands: []string{"/usr/bin/env", "/opt/bots/*", `C:\bots\*.exe`, `C:\*\*\*.exe`}, Drivers: []Driver{DriverNone}, Handovers: []Handover{HandoverDescriptor}}
	tests := []struct {
		program  string
		driver   Driver
		handover Handover
		ok       bool
	}{
		{"/usr/bin/env", DriverNone, HandoverDescriptor, true},
		{"/opt/bots/a", DriverNone, HandoverNone, true},
		{"/opt/bots/a/b", DriverNone, HandoverNone, false},
		{"/opt/bots/../x", DriverNone, HandoverNone, false},
		{"/opt/bots/..", DriverNone, HandoverNone, false},
		{"/bin/sh", DriverNone, HandoverNone, false},
		{`C:\bots\a.exe`, DriverNone, HandoverNone, true},
		{`C:\bots\..\a.exe`, DriverNone, HandoverNone, false},
		{`C:\bots\.. \a.exe`, DriverNone, HandoverNone, false},
		{`C:\deep/..\a.exe`, DriverNone, HandoverNone, false},
		{`C:\bots\a\b\c.exe`, DriverNone, HandoverNone, false},
		{"/usr/bin/env", "ssh", HandoverNone, false},
		{"/usr/bin/env", DriverNone, HandoverEnvironment, false},
	}
	for _, tt := range tests {
		if got := p.Refuses(tt.program, tt.driver, "", tt.handover); (got == "") != tt.ok {
			t.Errorf("Refuses(%s, %s, %s) = %q; want allowed %v", tt.program, tt.driver, tt.handover, got, tt.ok)
		}
	}
	if (Policy{}).Refuses("/usr/bin/env", DriverNone, "", HandoverNone) == "" {
		t.Error("the empty policy allows something")
	}
}

func TestExposureAllows(t *testing.T) {
	for i, e := range exposures {
		for j, h := range handovers {
			if got, want := e.Allows(h), h == HandoverNone || j <= i; got != want {
				t.Errorf("%s.Allows(%s) = %v; want %v", e, h, got, want)
			}
		}
	}
	if Exposure("").Allows(HandoverDescriptor) || ExposureEnvironment.Allows("session") {
		t.Error("an unknown exposure or handover is allowed")
	}
}

// TestSecretIsNotPrinted puts a secret wherever fmt, slog and JSON may find it.
func TestSecretIsNotPrinted(t *testing.T) {
	const canary = "canary-7c1f"
	s := NewSecret(canary)
	type holder struct {
		Exported   Secret
		unexported Secret
		Pointer    *Secret
		Map        map[string]Secret
		Any        any
	}
	h := holder{s, s, &s, map[string]Secret{"a": s}, []Secret{s}}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
	}
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("x", slog.Any("s", s), slog.Any("h", h))
	}
	if b, err := json.Marshal(h); err == nil {
		t.Errorf("a secret was marshalled: %s", b)
	}
	fmt.Fprint(&out, fmt.Errorf("wrapped: %w", Invalid("x", "%v", s)))
	if strings.Contains(out.String(), canary) {
		t.Error("the secret was printed")
	}
	if s.Reveal() != canary {
		t.Error("Reveal does not return the value")
	}
}

func TestIDs(t *testing.T) {
	now := time.Now()
	a, b := NewOrderedID("aud", now, 1), NewOrderedID("aud", now, 2)
	if a >= b {
		t.Errorf("ids of one millisecond do not keep their sequence: %s, %s", a, b)
	}
	if x, y := NewID("run", now), NewID("run", now.Add(time.Millisecond)); x >= y {
		t.Errorf("ids do not sort by time: %s, %s", x, y)
	}
	for id, want := range map[string]bool{a: true, "aud_": false, "aud_short": false, strings.ToUpper(a): false, "x" + a: false, a + "0": false} {
		if got := HasPrefix(id, "aud"); got != want {
			t.Errorf("HasPrefix(%q) = %v; want %v", id, got, want)
		}
	}
}

// TestPermissionTable compares the table with a golden file that people review.
func TestPermissionTable(t *testing.T) {
	var b strings.Builder
	actions := make([]Action, 0, len(Permissions))
	for a := range Permissions {
		actions = append(actions, a)
	}
	slices.Sort(actions)
	fmt.Fprintf(&b, "%-22s", "")
	columns := []struct {
		name string
		a    Access
	}{
		{"user", Access{Role: RoleUser}}, {"user-share", Access{Role: RoleUserShare}}, {"co-owner", Access{Role: RoleCoOwner}}, {"owner", Access{Role: RoleOwner}},
		{"env:user", Access{Environment: []EnvironmentRole{EnvUser}}}, {"env:maker", Access{Environment: []EnvironmentRole{EnvMaker}}},
		{"env:auditor", Access{Environment: []EnvironmentRole{EnvAuditor}}}, {"env:admin", Access{Environment: []EnvironmentRole{EnvAdmin}}},
		{"tenant", Access{Tenant: true}}, {"nobody", Access{}},
	}
	for _, c := range columns {
		fmt.Fprintf(&b, " %-11s", c.name)
	}
	b.WriteByte('\n')
	for _, a := range actions {
		fmt.Fprintf(&b, "%-22s", a)
		for _, c := range columns {
			mark := "."
			if c.a.Can(a) {
				mark = "yes"
			}
			fmt.Fprintf(&b, " %-11s", mark)
		}
		b.WriteByte('\n')
	}
	got := strings.ReplaceAll(b.String(), " \n", "\n")
	for strings.Contains(got, " \n") {
		got = strings.ReplaceAll(got, " \n", "\n")
	}
	const file = "testdata/permissions.txt"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the permission table changed; review it and run with -update (-want +got):\n%s", diff)
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("disk full")
	err := fmt.Errorf("save: %w", &Error{Kind: ErrUnavailable, Msg: "try again later", Err: cause})
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, cause) || errors.Is(err, ErrDenied) {
		t.Error("kind and cause of an error are not both visible")
	}
	// Every kind is one that errors.Is tells from the others.
	kinds := []error{ErrInvalid, ErrUnauthenticated, ErrDenied, ErrNotFound, ErrConflict, ErrUnavailable}
	for i, k := range kinds {
		for j, other := range kinds {
			if errors.Is(&Error{Kind: k}, other) != (i == j) {
				t.Errorf("an error of kind %v is %v", k, other)
			}
		}
	}
}

func TestSealedValuesRoundTrip(t *testing.T) {
	for _, v := range []CredentialValues{
		{Username: `CONTOSO\bot`, Password: NewSecret("p\"\\\u00e9\n")},
		{Username: "bot@contoso.example", PFX: NewSecret("0\x82\x00\xff")},
	} {
		b, err := v.EncodeForSealing()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeSealed(b)
		if err != nil || got.Username != v.Username || got.Password.Reveal() != v.Password.Reveal() || got.PFX.Reveal() != v.PFX.Reveal() || got.PFX.IsZero() != v.PFX.IsZero() {
			t.Errorf("values did not come back: %v", err)
		}
	}
	if _, err := DecodeSealed([]byte(`{"certificate":"!"}`)); err == nil {
		t.Error("a damaged file came back")
	}
	if reflect.TypeFor[CredentialValues]().NumField() != 3 {
		t.Error("a new field of CredentialValues needs encoding")
	}
}

func TestFirstID(t *testing.T) {
	now := time.UnixMilli(1795000000123)
	for _, tt := range []struct {
		at   time.Time
		want int
	}{{now.Add(-time.Millisecond), 1}, {now, 1}, {now.Add(time.Millisecond), -1}, {time.Time{}, 1}, {time.UnixMilli(0), 1}} {
		for _, id := range []string{NewID("aud", now), NewOrderedID("aud", now, 0), NewOrderedID("aud", now, 1<<32-1)} {
			if got := strings.Compare(id, FirstID("aud", tt.at)); got != tt.want {
				t.Errorf("%s against FirstID of %v: %d; want %d", id, tt.at, got, tt.want)
			}
		}
	}
}
