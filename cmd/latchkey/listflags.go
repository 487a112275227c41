package main

import (
	"github.com/spf13/cobra"

	"latchkey.dev/client"
	"latchkey.dev/internal/cli"
	"latchkey.dev/latchkey"
)

// listFlags are the flags of lists that can be searched and sorted.
type listFlags struct{ search, sort string }

// add adds the flags; a list without several orders has no --sort.
func (v *listFlags) add(cmd *cobra.Command, orders ...string) {
	cmd.Flags().StringVar(&v.search, "search", "", "only what has this text in its name or description, in any case")
	switch len(orders) {
	case 0:
	case len(latchkey.NameOrders):
		cli.EnumFlag(cmd, &v.sort, "sort", "", "order: name, or -name from the end", orders...)
	default:
		cli.EnumFlag(cmd, &v.sort, "sort", "", "order: name, modified for the one changed longest ago first, or -name or -modified from the end", orders...)
	}
}

func (v *listFlags) options() []client.ListOption {
	return []client.ListOption{client.Search(v.search), client.Sort(v.sort)}
}
