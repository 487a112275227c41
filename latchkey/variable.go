package latchkey

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A VariableType is the type of an environment variable's values.
type VariableType string

const (
	TypeText    VariableType = "text"
	TypeNumber  VariableType = "number"
	TypeBoolean VariableType = "boolean"
	TypeJSON    VariableType = "json"
	TypeSecret  VariableType = "secret" // holds a SecretReference
)

var variableTypes = []VariableType{TypeText, TypeNumber, TypeBoolean, TypeJSON, TypeSecret}

// A Variable is an environment variable. For type secret the values are ARM
// ids of secrets, never secrets.
type Variable struct {
	ID           VariableID       `json:"id"`
	Name         string           `json:"name" doc:"unique name, fixed at creation"`
	DisplayName  string           `json:"displayName"`
	Description  string           `json:"description,omitempty"`
	Type         VariableType     `json:"type" enum:"text,number,boolean,json,secret"`
	DefaultValue *string          `json:"defaultValue,omitempty" doc:"used while there is no current value"`
	Value        *string          `json:"value,omitempty" doc:"the current value; for type secret the ARM id of the secret"`
	Secret       *SecretReference `json:"secret,omitempty" doc:"for type secret: the reference last saved"`
	InForce      *SecretReference `json:"inForce,omitempty" doc:"for type secret: the reference that releases read; it stays until a newer one has passed its check"`
	Check        *Check           `json:"check,omitempty" doc:"for type secret: whether the reference last saved may be read"`
	CreatedBy    PrincipalID      `json:"createdBy"`
	CreatedAt    time.Time        `json:"createdAt"`
	UpdatedAt    time.Time        `json:"updatedAt"`

	OwnedBy *Owner `json:"ownedBy,omitempty" doc:"when it is shown or listed: who owns it"`
	MyRole  Role   `json:"myRole,omitempty" enum:"owner,co-owner,user-share,user" doc:"likewise: the caller's own role on it"`
	UsedBy  *int   `json:"usedBy,omitempty" doc:"likewise: how many credentials use it, also such as the caller may not see; at most 1000 are counted"`
}

// Effective returns the value in force and whether there is one: the current
// value, else the default.
func (v *Variable) Effective() (string, bool) {
	if v.Value != nil {
		return *v.Value, true
	}
	if v.DefaultValue != nil {
		return *v.DefaultValue, true
	}
	return "", false
}

// A CheckState is the state of the background check of a reference.
type CheckState string

const (
	CheckChecking CheckState = "checking"
	CheckPassed   CheckState = "passed"
	CheckFailed   CheckState = "failed"
	CheckUnknown  CheckState = "unknown" // could not be checked; retried
)

// A Check is the result of checking that the person who saved a reference, and
// the service itself, may read the secret.
type Check struct {
	State      CheckState    `json:"state" enum:"checking,passed,failed,unknown"`
	Message    string        `json:"message,omitempty" doc:"what happened, in a sentence"`
	Identity   string        `json:"identity,omitempty" doc:"the identity that failed"`
	Check      string        `json:"check,omitempty" doc:"the step that did not pass"`
	Remedy     string        `json:"remedy,omitempty" doc:"what to do"`
	CheckedAt  *time.Time    `json:"checkedAt,omitempty"`
	NextAt     *time.Time    `json:"nextAt,omitempty" doc:"when it is checked again"`
	Overridden bool          `json:"overridden,omitempty" doc:"an admin let the reference be used without a passed check"`
	Results    []CheckResult `json:"results,omitempty" nullable:"false" doc:"what came of each step; not in lists"`
}

// Usable reports whether a reference with this check may be released from.
func (c *Check) Usable() bool {
	return c != nil && (c.State == CheckPassed || c.Overridden)
}

// A VariableCreate asks for a new variable.
type VariableCreate struct {
	Name          string           `json:"name,omitempty" doc:"unique name with the environment's prefix; made from the display name when empty"`
	DisplayName   string           `json:"displayName"`
	Description   string           `json:"description,omitempty"`
	Type          VariableType     `json:"type" doc:"text, number, boolean, json or secret"`
	DefaultValue  *string          `json:"defaultValue,omitempty"`
	Value         *string          `json:"value,omitempty" doc:"the current value; for type secret an ARM id, or use secret"`
	Secret        *SecretReference `json:"secret,omitempty" doc:"for type secret: where the secret is"`
	DefaultSecret *SecretReference `json:"defaultSecret,omitempty" doc:"for type secret: the default reference"`
}

// Validate returns every fault. It fills in the name, and turns secret
// references into values.
func (c *VariableCreate) Validate(prefix string) error {
	var f faults
	displayErr := CheckName(c.DisplayName)
	f.check("displayName", displayErr)
	if c.Name == "" && displayErr == nil {
		c.Name = VariableName(prefix, c.DisplayName)
		if c.Name == "" {
			f.add("name", "cannot be made from this display name; give one such as %s_Name", prefix)
		}
	}
	if c.Name != "" {
		f.check("name", checkVariableName(prefix, c.Name))
	}
	f.check("description", checkText(c.Description, MaxDescription))
	if !slices.Contains(variableTypes, c.Type) {
		f.add("type", "must be one of text, number, boolean, json, secret")
		return f.err()
	}
	c.Value = valueOrReference(&f, c.Type, "value", c.Value, "secret", c.Secret)
	c.DefaultValue = valueOrReference(&f, c.Type, "defaultValue", c.DefaultValue, "defaultSecret", c.DefaultSecret)
	if c.Type == TypeSecret && c.Value == nil && c.DefaultValue == nil && len(f) == 0 {
		f.add("secret", "a secret variable needs subscriptionId, resourceGroup, vault and secret")
	}
	return f.err()
}

func checkVariableName(prefix, name string) error {
	switch {
	case len(name) > MaxName:
		return errors.New("must be at most 100 characters")
	case !strings.HasPrefix(name, prefix+"_"):
		return errors.New("must begin with this environment's prefix, " + prefix + "_")
	case !variableNameRE.MatchString(name):
		return errors.New("must be the prefix, an underscore, and letters, digits or underscores")
	case HasPrefix(name, "var"):
		return errors.New("must not look like an identifier")
	}
	return nil
}

// A VariableUpdate changes what is not nil. The name and the type never
// change. An empty value removes the value.
type VariableUpdate struct {
	DisplayName   *string          `json:"displayName,omitempty"`
	Description   *string          `json:"description,omitempty"`
	DefaultValue  *string          `json:"defaultValue,omitempty" doc:"empty removes it"`
	Value         *string          `json:"value,omitempty" doc:"empty removes it, so that the default is used"`
	Secret        *SecretReference `json:"secret,omitempty"`
	DefaultSecret *SecretReference `json:"defaultSecret,omitempty"`
}

// Validate returns every fault for a variable of type t, and turns secret
// references into values.
func (u *VariableUpdate) Validate(t VariableType) error {
	var f faults
	if u.DisplayName != nil {
		f.check("displayName", CheckName(*u.DisplayName))
	}
	if u.Description != nil {
		f.check("description", checkText(*u.Description, MaxDescription))
	}
	if u.Value == nil || *u.Value != "" {
		u.Value = valueOrReference(&f, t, "value", u.Value, "secret", u.Secret)
	}
	if u.DefaultValue == nil || *u.DefaultValue != "" {
		u.DefaultValue = valueOrReference(&f, t, "defaultValue", u.DefaultValue, "defaultSecret", u.DefaultSecret)
	}
	return f.err()
}

// valueOrReference checks one of a variable's two values, given as text or, for
// type secret, as a reference, and returns it as text.
func valueOrReference(f *faults, t VariableType, field string, value *string, refField string, ref *SecretReference) *string {
	if t != TypeSecret {
		if ref != nil {
			f.add(refField, "is only for variables of type secret")
		}
		if value != nil {
			f.check(field, t.CheckValue(*value))
		}
		return value
	}
	switch {
	case ref != nil && value != nil:
		f.add(refField, "give either %s or %s, not both", field, refField)
		return value
	case ref != nil:
		before := len(*f)
		ref.validate(f, refField+".")
		if len(*f) > before {
			return nil
		}
		text := ref.String()
		return &text
	case value != nil:
		parsed, err := ParseSecretReference(*value)
		f.check(field, err)
		if err != nil {
			return nil
		}
		text := parsed.String()
		return &text
	}
	return nil
}

var numberRE = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

// CheckValue returns what is wrong with a value of type t.
func (t VariableType) CheckValue(s string) error {
	if err := checkText(s, MaxValue); err != nil {
		return err
	}
	switch t {
	case TypeNumber:
		if !numberRE.MatchString(s) {
			return errors.New("must be a decimal number such as 42 or -1.5")
		}
	case TypeBoolean:
		if s != "true" && s != "false" {
			return errors.New("must be true or false")
		}
	case TypeJSON:
		if !json.Valid([]byte(s)) {
			return errors.New("must be valid JSON")
		}
	}
	return nil
}
