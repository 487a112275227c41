package broker_test

import (
	"os"
	"testing"

	"latchkey.dev/internal/latchkeytest/pg"
)

func TestMain(m *testing.M) { os.Exit(pg.Main(m)) }
