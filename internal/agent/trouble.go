package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"time"
)

// A Trouble says why the agent cannot work.
type Trouble struct {
	Since   time.Time `json:"since"`
	Message string    `json:"message"`
}

// note keeps on disk, for the status command, why no run can be claimed; nil is
// that all is well. What is noted already is not written again.
func (a *Agent) note(ctx context.Context, trouble error) {
	message := ""
	if trouble != nil {
		message = trouble.Error()
	}
	if message == a.trouble {
		return
	}
	path := filepath.Join(a.dir, troubleFile)
	err := removeIfThere(path)
	if trouble != nil {
		var b []byte
		if b, err = json.MarshalIndent(Trouble{time.Now().UTC().Truncate(time.Second), clip(message)}, "", "  "); err == nil {
			err = writeFile(path, append(b, '\n'))
		}
	}
	if err != nil {
		a.log.LogAttrs(ctx, slog.LevelWarn, "trouble not noted for the status command", slog.Any("error", err))
		return
	}
	a.trouble = message
}

// loadTrouble returns what note has kept, or an error that is [fs.ErrNotExist].
func loadTrouble(dir string) (*Trouble, error) {
	b, err := readFile(filepath.Join(dir, troubleFile))
	if err != nil {
		return nil, err
	}
	t := new(Trouble)
	return t, json.Unmarshal(b, t)
}
