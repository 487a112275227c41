package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"latchkey.dev/internal/broker"
	"latchkey.dev/internal/cli"
	"latchkey.dev/internal/db"
	"latchkey.dev/internal/seal"
)

func (a *app) masterKeyCommand() *cobra.Command {
	cmd := cli.Group("master-key", "change the master key, while servers run", `Commands that replace the master key by a new one. They work on the database and the key
file, beside running servers, without signing in, and are on record. In this order:

  latchkey master-key add --data DIR       a new key, added to the key file
                                           (now give the file to every other server)
  latchkey master-key rewrap --data DIR    the new key seals, also what the old one sealed
  latchkey master-key status --data DIR    what is sealed with which key
  latchkey master-key retire --data DIR    the old key leaves the key file

A server takes up the new key by itself, from its key file. Back the key file up after
add, and keep the old one with the backups that were taken before.`)
	cmd.AddCommand(a.masterKeyAddCommand(), a.masterKeyRewrapCommand(), a.masterKeyStatusCommand(), a.masterKeyRetireCommand())
	return cmd
}

// onKeys opens database and key file for a command.
func (a *app) onKeys(c *serverConfig, f func(*cobra.Command, *db.DB, *seal.Key) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, _ []string) (err error) {
		d, key, err := c.openDatabase(cmd.Context(), true)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		return f(cmd, d, key)
	}
}

func (a *app) masterKeyAddCommand() *cobra.Command {
	var c serverConfig
	cmd := &cobra.Command{
		Use:   "add",
		Short: "add a new master key to the key file",
		Long: `Add makes a new master key and adds it to the key file as its last line. Nothing is sealed
with it yet. Give the file to every server of the database, and back it up.`,
		Args: cli.Exactly(),
	}
	cmd.RunE = a.onKeys(&c, func(cmd *cobra.Command, d *db.DB, key *seal.Key) error {
		statuses, err := broker.KeyStatuses(cmd.Context(), d, key, false)
		if err != nil {
			return err
		}
		for _, s := range statuses {
			if s.Held && !s.Known {
				return cli.Hint(fmt.Errorf("the key file %s has a new master key already, %s", c.MasterKey, s.ID), "latchkey master-key rewrap")
			}
		}
		id, err := seal.AddKey(c.MasterKey)
		if err != nil {
			return err
		}
		if err := broker.RecordKeyAdded(cmd.Context(), d, id, account()); err != nil {
			return fmt.Errorf("the key is in the file, but that could not be put on record: %w", err)
		}
		a.Say("back up %s, and put it in place on every other server; then: latchkey master-key rewrap", c.MasterKey)
		return a.PrintOne(map[string]string{"key": id, "file": c.MasterKey}, cli.Field{"Key", id}, cli.Field{"File", c.MasterKey})
	})
	a.settingsFlags(cmd, &c, "data", "database", "master-key")
	return cmd
}

func (a *app) masterKeyRewrapCommand() *cobra.Command {
	var c serverConfig
	cmd := &cobra.Command{
		Use:   "rewrap",
		Short: "seal everything with the newest master key",
		Long: `Rewrap makes the last key of the key file the one that seals, and changes every sealed
value over to it: the data key of each is sealed anew, the values themselves are not opened.
It works in small steps beside running servers. If it is interrupted, run it again: it goes
on where it ended. Every server must have the key file by then, or it stops working until
it has.`,
		Args: cli.Exactly(),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = a.onKeys(&c, func(cmd *cobra.Command, d *db.DB, key *seal.Key) error {
		if c.Database != "" {
			if err := a.Confirm(cmd.Context(), *sure, "seal with the newest key of "+c.MasterKey+", which every server has by now"); err != nil {
				return err
			}
		}
		show, done := a.counting("changed")
		r, err := broker.Rewrap(cmd.Context(), d, key, account(), func(n int64) { show("values", n) })
		done()
		if err != nil {
			return err
		}
		if r.Left > 0 {
			return fmt.Errorf("%d values are still sealed with another master key: see latchkey master-key status", r.Left)
		}
		return a.PrintOne(r, cli.Field{"Key", r.Key}, cli.Field{"Changed", fmt.Sprintf("%d values", r.Changed)}, cli.Field{"Left", fmt.Sprintf("%d values", r.Left)})
	})
	a.settingsFlags(cmd, &c, "data", "database", "master-key")
	return cmd
}

func (a *app) masterKeyStatusCommand() *cobra.Command {
	var c serverConfig
	var check bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "count what is sealed with which master key",
		Long: `Status counts, over every column of the database that holds sealed values, how many are
sealed with which master key. With --check it also opens each of them. The exit code is 1
when a key is missing from the key file, or something does not open.`,
		Args: cli.Exactly(),
	}
	cmd.RunE = a.onKeys(&c, func(cmd *cobra.Command, d *db.DB, key *seal.Key) error {
		statuses, err := broker.KeyStatuses(cmd.Context(), d, key, check)
		if err != nil {
			return err
		}
		var faults []error
		items := func(yield func(broker.KeyStatus, error) bool) {
			for _, s := range statuses {
				if !yield(s, nil) {
					return
				}
			}
		}
		err = cli.PrintList(&a.Console, items, []string{"KEY", "SEALS", "IN FILE", "VALUES", "WHERE"}, func(s broker.KeyStatus) []string {
			var in []string
			for _, column := range slices.Sorted(maps.Keys(s.In)) {
				in = append(in, fmt.Sprintf("%s %d", column, s.In[column]))
			}
			return []string{s.ID, cli.Yes(s.Seals), cli.Yes(s.Held), fmt.Sprint(s.Sealed), strings.Join(in, ", ")}
		})
		for _, s := range statuses {
			if !s.Held {
				faults = append(faults, fmt.Errorf("the key file %s lacks the key %s", c.MasterKey, s.ID))
			}
			if s.Bad > 0 {
				faults = append(faults, fmt.Errorf("%d values under the key %s do not open; the first is %s", s.Bad, s.ID, s.First))
			}
		}
		return errors.Join(append(faults, err)...)
	})
	a.settingsFlags(cmd, &c, "data", "database", "master-key")
	cmd.Flags().BoolVar(&check, "check", false, "open every sealed value")
	return cmd
}

func (a *app) masterKeyRetireCommand() *cobra.Command {
	var c serverConfig
	cmd := &cobra.Command{
		Use:   "retire",
		Short: "remove the master keys that seal nothing any more",
		Long: `Retire removes every master key but the one that seals from the database's list and from
the key file. It refuses while anything is sealed with one of them. Backups that were taken
before rewrap need the old key: keep a copy of the old key file with them. Backups of
single secrets and certificates of embedded vaults from before cannot be restored any
more.`,
		Args: cli.Exactly(),
	}
	sure := cli.SureFlag(cmd)
	cmd.RunE = a.onKeys(&c, func(cmd *cobra.Command, d *db.DB, key *seal.Key) error {
		if err := a.Confirm(cmd.Context(), *sure, "remove the old master keys from "+c.MasterKey+", which older backups need"); err != nil {
			return err
		}
		sealing, _, err := broker.RetireKeys(cmd.Context(), d, key, account())
		if err != nil {
			return err
		}
		removed, err := seal.KeepKey(c.MasterKey, sealing)
		if err != nil {
			return err
		}
		if removed == nil {
			removed = []string{}
		}
		return a.PrintOne(struct {
			Key     string   `json:"key"`
			Retired []string `json:"retired"`
		}{sealing, removed}, cli.Field{"Key", sealing}, cli.Field{"Retired", strings.Join(removed, ", ")})
	})
	a.settingsFlags(cmd, &c, "data", "database", "master-key")
	return cmd
}
