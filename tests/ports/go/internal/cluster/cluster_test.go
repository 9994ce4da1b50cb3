package cluster

import (
	"regexp"
	"strings"
	"testing"

	"xlattice-port/internal/spectext"
)

func TestHostsOfTheTableAreTakenAndRefused(t *testing.T) {
	text := spectext.Section(t, "03-roster.md")
	_, text, _ = strings.Cut(text, "| host | |")
	found := 0
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "| `") {
			if found > 0 && !strings.HasPrefix(line, "|") {
				break
			}
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(line, -1) {
			found++
			if _, err := HostKind(m[1]); (err == nil) != strings.Contains(line, "| valid |") {
				t.Errorf("%q: %v", m[1], err)
			}
		}
	}
	if found < 20 {
		t.Errorf("%d hosts in the text", found)
	}
}

func TestArmourIsTheOneThatItsContentHas(t *testing.T) {
	for n := range 200 {
		content := make([]byte, n)
		text := Armour("XLATTICE ROSTER", content)
		back, err := Dearmour("XLATTICE ROSTER", text)
		if err != nil || len(back) != n {
			t.Fatalf("%d bytes: %v", n, err)
		}
		crlf := strings.ReplaceAll(text, "\n", "\r\n")
		for _, bad := range []string{text + "\n", " " + text, crlf, text[:len(text)-1]} {
			if _, err := Dearmour("XLATTICE ROSTER", bad); err == nil {
				t.Errorf("%d bytes: %q", n, bad)
			}
		}
	}
}
