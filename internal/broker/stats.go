package broker

import (
	"context"

	"latchkey.dev/internal/db"
)

// Stats are numbers about the whole installation, for metrics. They hold no
// name and no id.
type Stats = db.Stats

// Stats returns the numbers as they are now. Every server of an installation
// gives the same.
func (b *Broker) Stats(ctx context.Context) (s Stats, err error) {
	err = b.db.View(ctx, func(tx *db.Tx) error {
		s, err = tx.Stats()
		return err
	})
	return s, err
}
