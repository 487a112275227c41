package archtest

import (
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const logDoc = "docs/logs.md"

// A message is what the code writes to the log at one place, or a row of the
// document about it.
type message struct {
	agent bool // of the agent's log
	text  string
	level string // debug, info, warn, error, or varies
	attrs string // their names, in order
}

func (m message) row() string {
	attrs := "–"
	if m.attrs != "" {
		attrs = m.attrs
	}
	return fmt.Sprintf("| %s | %s | %s |", m.text, m.level, attrs)
}

// messages finds what the module's code logs.
func messages(t *testing.T) map[message]token.Position {
	found := map[message]token.Position{}
	for _, s := range sources(t) {
		if s.test {
			continue
		}
		ast.Inspect(s.File, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			m, ok := logged(call)
			if !ok {
				return true
			}
			m.agent = s.pkg() == "internal/agent"
			if m.text == "" {
				t.Errorf("%s: the message is not a literal: nobody could look it up", s.fset.Position(call.Pos()))
			} else if m.level != "debug" {
				found[m] = s.fset.Position(call.Pos())
			}
			return true
		})
	}
	return found
}

// logged returns what a call writes to a log, if it is one of [slog.Logger]'s.
func logged(call *ast.CallExpr) (m message, ok bool) {
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return m, false
	}
	args := call.Args
	level, context := strings.CutSuffix(fun.Sel.Name, "Context")
	switch {
	case (fun.Sel.Name == "LogAttrs" || fun.Sel.Name == "Log" && loggerName(fun.X)) && len(args) >= 3:
		m.level, args = "varies", args[1:]
		if l, ok := args[0].(*ast.SelectorExpr); ok {
			m.level = strings.ToLower(strings.TrimPrefix(l.Sel.Name, "Level"))
		}
	case slices.Contains([]string{"Debug", "Info", "Warn", "Error"}, level) && len(args) >= 1 && (context || loggerName(fun.X)):
		m.level = strings.ToLower(level)
		if !context {
			args = append([]ast.Expr{nil}, args...)
		}
	default:
		return m, false
	}
	m.text = literal(args[1])
	var names []string
	for _, a := range args[2:] {
		if c, ok := a.(*ast.CallExpr); ok && len(c.Args) > 0 {
			if f, ok := c.Fun.(*ast.SelectorExpr); ok && fmt.Sprint(f.X) == "slog" {
				a = c.Args[0]
			}
		}
		if name := literal(a); name != "" {
			names = append(names, name)
		}
	}
	m.attrs = strings.Join(names, ", ")
	return m, true
}

// loggerName reports whether an expression is called as our loggers are.
func loggerName(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.Ident:
		return strings.EqualFold(x.Name, "log")
	case *ast.SelectorExpr:
		return strings.EqualFold(x.Sel.Name, "log")
	}
	return false
}

// literal returns the value of a string literal, or "".
func literal(x ast.Expr) string {
	l, ok := x.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	s, err := strconv.Unquote(l.Value)
	if err != nil {
		return ""
	}
	return s
}

// TestLogDoc compares the tables of docs/logs.md with what the code logs at info
// and above.
func TestLogDoc(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, logDoc))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[bool]map[string]bool{true: {}, false: {}}
	agent := false
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "## ") {
			agent = line == "## The agent"
		}
		cells := strings.SplitN(line, " | ", 4)
		if len(cells) < 4 || cells[0] == "| message" {
			continue
		}
		if strings.TrimSuffix(cells[3], " |") == "" {
			t.Errorf("%s does not say what to do: %s", logDoc, line)
		}
		rows[agent][strings.Join(cells[:3], " | ")+" |"] = true
	}
	for m, at := range messages(t) {
		if row := m.row(); rows[m.agent][row] {
			rows[m.agent][row] = false // the code has it
		} else if _, twice := rows[m.agent][row]; !twice {
			t.Errorf("%s lacks a message of %s; with what it means and what to do, add:\n%s", logDoc, at, row)
		}
	}
	for _, part := range rows {
		for row, unknown := range part {
			if unknown {
				t.Errorf("%s has a message that the code does not write: %s", logDoc, row)
			}
		}
	}
}
