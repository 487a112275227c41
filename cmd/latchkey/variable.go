package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

func variableFields(v latchkey.Variable) []cli.Field {
	fields := []cli.Field{
		{"ID", string(v.ID)}, {"Name", v.Name}, {"Display name", v.DisplayName}, {"Description", v.Description},
		{"Type", string(v.Type)}, {"Value", deref(v.Value)}, {"Default value", deref(v.DefaultValue)},
	}
	if v.Check != nil {
		fields = append(fields,
			cli.Field{"Check", checkText(v.Check)}, cli.Field{"Message", v.Check.Message}, cli.Field{"Identity", v.Check.Identity},
			cli.Field{"Failed check", v.Check.Check}, cli.Field{"Remedy", v.Check.Remedy}, cli.Field{"Checked again", cli.WhenPtr(v.Check.NextAt)}, cli.Field{"Steps", stepsText(v.Check.Results)})
	}
	if v.InForce != nil && v.Secret != nil && v.InForce.Key() != v.Secret.Key() {
		fields = append(fields, cli.Field{"In force", v.InForce.String()})
	}
	return append(fields, cli.Field{"Created", cli.When(v.CreatedAt)})
}

// stepsText returns what came of the steps of a check, a line for each and one for
// what mends it.
func stepsText(results []latchkey.CheckResult) string {
	var lines []string
	for _, r := range results {
		lines = append(lines, fmt.Sprintf("%-8s %-7s  %s", r.Step, r.State, r.Message))
		for _, more := range []string{r.Warning, r.Remedy} {
			if more != "" {
				lines = append(lines, fmt.Sprintf("%18s%s", "", more))
			}
		}
		if r.Command != "" {
			lines = append(lines, fmt.Sprintf("%18stry: %s", "", r.Command))
		}
	}
	return strings.Join(lines, "\n")
}

func checkText(c *latchkey.Check) string {
	switch {
	case c == nil:
		return ""
	case c.Overridden:
		return string(c.State) + " (overridden)"
	}
	return string(c.State)
}

// variableFlags are the flags of create and update.
type variableFlags struct {
	displayName, description, value, defaultValue, secret string
	ref                                                   latchkey.SecretReference
}

func (v *variableFlags) add(a *app, cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&v.description, "description", "", "description")
	f.StringVar(&v.value, "value", "", "current value; for a secret variable the ARM id of the secret")
	f.StringVar(&v.defaultValue, "default", "", "default value, used while there is no current value")
	f.StringVar(&v.secret, "secret", "", "ARM id of the secret: /subscriptions/…/vaults/…/secrets/…")
	f.StringVar(&v.ref.SubscriptionID, "subscription", "", "subscription id of the secret's vault")
	f.StringVar(&v.ref.ResourceGroup, "resource-group", "", "resource group of the secret's vault")
	f.StringVar(&v.ref.Vault, "vault", "", "name of the secret's vault; alone with --secret-name it is an embedded vault")
	f.StringVar(&v.ref.Secret, "secret-name", "", "name of the secret, without a version")
	completeFlag(cmd, "vault", a.completeVaults())
	completeFlag(cmd, "secret-name", a.completeVaultObjects(0, "/secrets", func(*cobra.Command, []string) string { return v.ref.Vault }))
}

// changed returns a flag as it is typed, if it was given.
func changed(f *pflag.FlagSet, name string) string {
	if f.Changed(name) {
		return "--" + name
	}
	return ""
}

// noReference is the present reference of a variable that is yet to be made.
func noReference() (*latchkey.SecretReference, error) { return nil, nil }

// reference returns what the flags say about the secret, if anything. The parts
// that they leave out are those of the present reference, if there is one. Of an
// embedded vault the name is enough.
func (v *variableFlags) reference(ctx context.Context, c *client.Client, f *pflag.FlagSet, present func() (*latchkey.SecretReference, error)) (value *string, ref *latchkey.SecretReference, err error) {
	if f.Changed("value") {
		value = &v.value
	}
	other := firstOf(changed(f, "secret"), changed(f, "vault"), changed(f, "secret-name"), changed(f, "subscription"), changed(f, "resource-group"))
	switch {
	case value != nil && other != "":
		return nil, nil, cli.Usagef("--value and %s cannot be given together: a variable holds a text or refers to a secret", other)
	case v.secret != "" && v.ref != (latchkey.SecretReference{}):
		return nil, nil, cli.Usagef("--secret names the whole secret: leave --vault, --secret-name, --subscription and --resource-group out")
	}
	if v.secret != "" {
		parsed, err := latchkey.ParseSecretReference(v.secret)
		if err != nil {
			return nil, nil, latchkey.Invalid("--secret", "%v", err)
		}
		return value, &parsed, nil
	}
	if v.ref == (latchkey.SecretReference{}) {
		return value, nil, nil
	}
	r := v.ref
	old, err := present()
	if err != nil {
		return nil, nil, err
	}
	if r.SubscriptionID == "" && r.ResourceGroup == "" && r.Vault != "" {
		if err := latchkey.CheckVaultName(r.Vault); err != nil {
			return nil, nil, latchkey.Invalid("--vault", "%v", err)
		}
		vault, err := c.Vault(ctx, r.Vault)
		if err != nil && (old == nil || !errors.Is(err, latchkey.ErrNotFound)) {
			return nil, nil, cli.Hint(err, "the flags --subscription and --resource-group, if the vault is in Azure")
		}
		r.SubscriptionID, r.ResourceGroup = vault.SubscriptionID, vault.ResourceGroup
	}
	if old != nil {
		r.SubscriptionID, r.ResourceGroup = firstOf(r.SubscriptionID, old.SubscriptionID), firstOf(r.ResourceGroup, old.ResourceGroup)
		r.Vault, r.Secret = firstOf(r.Vault, old.Vault), firstOf(r.Secret, old.Secret)
	}
	return value, &r, referenceFaults(r)
}

// referenceFaults checks a reference and names the flags of what is wrong.
func referenceFaults(r latchkey.SecretReference) error {
	err := r.Validate()
	e, ok := errors.AsType[*latchkey.Error](err)
	if !ok {
		return err
	}
	flags := map[string]string{"subscriptionId": "--subscription", "resourceGroup": "--resource-group", "vault": "--vault", "secret": "--secret-name"}
	named := *e
	named.Fields = make([]latchkey.FieldError, len(e.Fields))
	for i, f := range e.Fields {
		named.Fields[i] = latchkey.FieldError{Field: firstOf(flags[f.Field], f.Field), Message: f.Message}
	}
	return cli.Usage(&named)
}

func (a *app) variableCommand() *cobra.Command {
	cmd := cli.Group("variable", "environment variables: texts, and references to secrets", `A variable has a display name, a unique name such as new_ERPpassword, a type, a default
value and a current value. One of type secret holds a reference to a secret in a
vault, never a value; whether that secret may be read is checked after every change.`, "variables", "var")
	cmd.AddCommand(a.variableCreate(), a.variableList(), a.variableShow(), a.variableUpdate(), a.variableDelete(), a.variableCheck(), a.variableOverride())
	a.addSharing(cmd, shared{kind: latchkey.KindVariable, resolve: variableRef, complete: a.completeVariables("")})
	return cmd
}

// variableRef resolves a variable, which the server knows by its name too.
func variableRef(_ context.Context, _ *client.Client, _, ref string) (string, error) { return ref, nil }

// completeVariables offers the variables of a type, or all.
func (a *app) completeVariables(kind latchkey.VariableType) completion {
	return completeNames(a, func(ctx context.Context, c *client.Client, env string) iter.Seq2[latchkey.Variable, error] {
		return c.Variables(ctx, env, kind)
	}, func(v latchkey.Variable) string { return described(v.Name, v.DisplayName) })
}

func (a *app) variableCreate() *cobra.Command {
	var v variableFlags
	var in latchkey.VariableCreate
	var kind string
	var wait bool
	cmd := &cobra.Command{
		Use:   "create DISPLAY-NAME",
		Short: "make a variable",
		Example: `  latchkey variable create "ERP user" --value 'CONTOSO\bot'
  latchkey variable create "ERP password" --type secret --vault erp --secret-name password --wait`,
		Args: cli.Exactly("DISPLAY-NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			in.DisplayName, in.Description, in.Type = args[0], v.description, latchkey.VariableType(kind)
			if in.Value, in.Secret, err = v.reference(cmd.Context(), c, cmd.Flags(), noReference); err != nil {
				return err
			}
			if cmd.Flags().Changed("default") {
				in.DefaultValue = &v.defaultValue
			}
			if in.Secret != nil && !cmd.Flags().Changed("type") {
				in.Type = latchkey.TypeSecret
			}
			if in.Type == latchkey.TypeSecret && in.Secret == nil && in.Value == nil && in.DefaultValue == nil {
				return cli.Hint(cli.Usagef("a secret variable needs --vault and --secret-name, or --secret"), cmd.CommandPath()+" --help")
			}
			created, err := c.CreateVariable(cmd.Context(), env, in)
			return a.checked(cmd.Context(), c, env, created, wait, err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&in.Name, "name", "", "unique name with the environment's prefix; made from the display name when not given")
	cli.EnumFlag(cmd, &kind, "type", "text", "text, number, boolean, json or secret", variableTypes()...)
	f.BoolVar(&wait, "wait", false, "wait for the check of a secret variable")
	v.add(a, cmd)
	return cmd
}

// checked prints a variable after a change; with wait it waits for the check
// first, and a check that did not pass is a failure.
func (a *app) checked(ctx context.Context, c *client.Client, env string, v latchkey.Variable, wait bool, err error) error {
	if err != nil {
		return err
	}
	if wait {
		stop := a.spin("waiting for the check")
		v, err = waitForCheck(ctx, c, env, v)
		if stop(); err != nil {
			return err
		}
	}
	if err := a.PrintOne(v, variableFields(v)...); err != nil {
		return err
	}
	if wait && v.Check != nil && !v.Check.Usable() {
		return cli.ExitCode(1)
	}
	return nil
}

// checkPoll is how often waitForCheck looks.
const checkPoll = 100 * time.Millisecond

// waitForCheck returns the variable when its check has ended.
func waitForCheck(ctx context.Context, c *client.Client, env string, v latchkey.Variable) (latchkey.Variable, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(checkPoll)
	defer tick.Stop()
	for v.Check != nil && v.Check.State == latchkey.CheckChecking {
		select {
		case <-ctx.Done():
			return v, fmt.Errorf("wait for the check of %s: %w", v.Name, ctx.Err())
		case <-tick.C:
		}
		var err error
		if v, err = c.Variable(ctx, env, string(v.ID)); err != nil {
			return v, err
		}
	}
	return v, nil
}

func (a *app) variableList() *cobra.Command {
	var kind string
	var v listFlags
	cmd := &cobra.Command{
		Use: "list", Short: "list the variables", Args: cli.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			return cli.PrintList(&a.Console, c.Variables(cmd.Context(), env, latchkey.VariableType(kind), v.options()...), []string{"NAME", "DISPLAY NAME", "TYPE", "VALUE", "CHECK"},
				func(v latchkey.Variable) []string {
					value, _ := v.Effective()
					return []string{v.Name, v.DisplayName, string(v.Type), shortID(value), checkText(v.Check)}
				})
		},
	}
	cli.EnumFlag(cmd, &kind, "type", "", "only those of this type", variableTypes()...)
	v.add(cmd, latchkey.SortOrders...)
	return cmd
}

// tableWidth is how much of one value fits a table.
const tableWidth = 60

// shortID cuts a value to what fits a table: its end, where ARM ids differ.
func shortID(s string) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) <= tableWidth {
		return string(r)
	}
	return "…" + string(r[len(r)-tableWidth:])
}

// short cuts a sentence or a command to its beginning that fits a table.
func short(s string) string {
	r := []rune(strings.Join(strings.Fields(s), " "))
	if len(r) <= tableWidth {
		return string(r)
	}
	return string(r[:tableWidth]) + "…"
}

func (a *app) variableShow() *cobra.Command {
	return &cobra.Command{
		Use: "show VARIABLE", Short: "show a variable and its check", Args: cli.Exactly("VARIABLE"), ValidArgsFunction: a.completeVariables(""),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			v, err := c.Variable(cmd.Context(), env, args[0])
			if err != nil {
				return err
			}
			return a.PrintOne(v, variableFields(v)...)
		},
	}
}

func (a *app) variableUpdate() *cobra.Command {
	var v variableFlags
	var wait bool
	cmd := &cobra.Command{
		Use: "update VARIABLE", Short: "change a variable; its name and type never change",
		Long: `Update changes what is given. Of a reference to a secret, the parts that are not given
stay what they are: --secret-name alone names another secret of the same vault.`,
		Example: `  latchkey variable update new_ERPpassword --secret-name other-password --wait`,
		Args:    cli.Exactly("VARIABLE"), ValidArgsFunction: a.completeVariables(""),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			var in latchkey.VariableUpdate
			f := cmd.Flags()
			present := func() (*latchkey.SecretReference, error) {
				old, err := c.Variable(cmd.Context(), env, args[0])
				return old.Secret, err
			}
			if in.Value, in.Secret, err = v.reference(cmd.Context(), c, f, present); err != nil {
				return err
			}
			if f.Changed("display-name") {
				in.DisplayName = &v.displayName
			}
			if f.Changed("description") {
				in.Description = &v.description
			}
			if f.Changed("default") {
				in.DefaultValue = &v.defaultValue
			}
			updated, err := c.UpdateVariable(cmd.Context(), env, args[0], in)
			return a.checked(cmd.Context(), c, env, updated, wait, err)
		},
	}
	cmd.Flags().StringVar(&v.displayName, "display-name", "", "name to show")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the check of a secret variable")
	v.add(a, cmd)
	return cmd
}

func (a *app) variableDelete() *cobra.Command {
	cmd := &cobra.Command{Use: "delete VARIABLE", Short: "remove a variable", Args: cli.Exactly("VARIABLE"), ValidArgsFunction: a.completeVariables("")}
	return a.deletes(cmd, shared{kind: latchkey.KindVariable, resolve: variableRef})
}

func (a *app) variableCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check VARIABLE", Short: "check again whether the secret may be read, and wait for the result",
		Args: cli.Exactly("VARIABLE"), ValidArgsFunction: a.completeVariables(""),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			v, err := c.CheckVariable(cmd.Context(), env, args[0])
			return a.checked(cmd.Context(), c, env, v, true, err)
		},
	}
}

func (a *app) variableOverride() *cobra.Command {
	var reason, reference string
	cmd := &cobra.Command{
		Use: "override VARIABLE --reason TEXT", Short: "let a reference be used without a passed check, on record",
		Args: cli.Exactly("VARIABLE"), ValidArgsFunction: a.completeVariables(""),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, env, err := a.within(cmd.Context())
			if err != nil {
				return err
			}
			if reason == "" {
				return cli.Usagef("--reason is missing: the audit log keeps it")
			}
			if reference == "" {
				v, err := c.Variable(cmd.Context(), env, args[0])
				if err != nil {
					return err
				}
				if v.Secret == nil {
					return cli.Usagef("the variable has no secret reference")
				}
				reference = v.Secret.String()
			}
			v, err := c.OverrideCheck(cmd.Context(), env, args[0], reference, reason)
			return a.checked(cmd.Context(), c, env, v, false, err)
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why; the audit log keeps it")
	cmd.Flags().StringVar(&reference, "reference", "", "ARM id of the reference that you have looked at (default: the one the variable has now)")
	return cmd
}
