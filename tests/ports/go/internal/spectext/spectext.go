// Package spectext reads tables and known answers out of the text of the specification, for tests.
package spectext

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// Section gives the text of a file of the specification.
func Section(t *testing.T, name string) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	data, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../../../spec", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Table gives the rows of the first table after a heading, without the header, code spans taken off.
func Table(text, heading string) [][]string {
	_, after, _ := strings.Cut(text, "### "+heading+"\n")
	var rows [][]string
	lines := 0
	for line := range strings.SplitSeq(after, "\n") {
		if !strings.HasPrefix(line, "|") {
			if lines > 0 {
				break
			}
			if strings.HasPrefix(line, "#") {
				break
			}
			continue
		}
		if lines++; lines <= 2 {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i, c := range cells {
			cells[i] = strings.ReplaceAll(strings.TrimSpace(c), "`", "")
		}
		rows = append(rows, cells)
	}
	return rows
}

var heading = regexp.MustCompile(`(?m)^### (Message|Enum|State table) ([A-Za-z]+)$`)

// Headings gives the names of all tables of a kind.
func Headings(text, kind string) []string {
	var names []string
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		if m[1] == kind {
			names = append(names, m[2])
		}
	}
	return names
}

// Answers are the known answers in the code blocks of a text, by name.
type Answers map[string][]byte

var (
	hexLine = regexp.MustCompile(`^[0-9a-f]+$`)
	inline  = regexp.MustCompile(`^(\S.*?) {2,}([0-9a-f]+)$`)
)

// KnownAnswers reads lines `name  hex` and `name:` with lines of hex below it.
func KnownAnswers(text string) Answers {
	answers, name := Answers{}, ""
	for line := range strings.SplitSeq(text, "\n") {
		if m := inline.FindStringSubmatch(line); m != nil && len(m[2])%2 == 0 {
			name = ""
			answers[m[1]] = mustHex(m[2])
		} else if hexLine.MatchString(line) && name != "" {
			answers[name] = append(answers[name], mustHex(line)...)
		} else if n, ok := strings.CutSuffix(line, ":"); ok {
			name = n
		} else {
			name = ""
		}
	}
	return answers
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// Run is the bytes from, from + 1, ... of a notation such as 20..3f.
func Run(from, to int) []byte {
	var b []byte
	for i := from; i <= to; i++ {
		b = append(b, byte(i))
	}
	return b
}
