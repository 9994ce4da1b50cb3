package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"xlattice-port/internal/spectext"
)

// write makes a directory of vectors with the keys of section 12 as fixtures.
func write(t *testing.T, vectors string) string {
	t.Helper()
	directory := t.TempDir()
	put := func(name, text string) string {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(text))
		return hex.EncodeToString(sum[:])
	}
	answers := spectext.KnownAnswers(spectext.Section(t, "12-example.md"))
	card := answers["node-0 card"]
	fixtures, err := json.Marshal(map[string]any{
		"keys": map[string]any{"node-0-sk": map[string]any{
			"bits": 2048, "p": hexOf(answers["node-0 sk"][:128]), "q": hexOf(answers["node-0 sk"][128:]),
			"spki": hexOf(card[10:304]),
		}},
		"nodes": map[string]any{}, "rosters": map[string]any{}, "cluster_cards": map[string]any{},
	})
	if err != nil {
		t.Fatal(err)
	}
	vectors = strings.ReplaceAll(vectors, "CARD", hexOf(card))
	sums := map[string]string{
		"fixtures.json": put("fixtures.json", string(fixtures)),
		"tiny.json":     put("tiny.json", `{"title":"tiny","vectors":[`+vectors+`]}`),
	}
	names := map[string]string{}
	for _, m := range regexp.MustCompile(`"name":"([^"]*)","op"`).FindAllStringSubmatch(vectors, -1) {
		names[m[1]] = ""
	}
	manifest, err := json.Marshal(map[string]any{
		"format": 1, "protocol": 2, "vectors": len(names),
		"files":  map[string]any{"tiny.json": map[string]any{"sha256": sums["tiny.json"], "vectors": names}},
		"others": map[string]any{"fixtures.json": sums["fixtures.json"]},
	})
	if err != nil {
		t.Fatal(err)
	}
	put("manifest.json", string(manifest))
	return directory
}

func TestEachVectorIsReportedForWhatItIs(t *testing.T) {
	directory := write(t, `
		{"name":"right","op":"hash","level":"MUST","role":"both",
		 "input":{"label":"node-id","content":""},
		 "output":{"hash":"de40357b9175fba09b600b111cc6f4586dda38ac407680c97eaf7de8dda17fa4"}},
		{"name":"wrong","op":"hash","level":"MUST","role":"both",
		 "input":{"label":"node-id","content":"00"},
		 "output":{"hash":"de40357b9175fba09b600b111cc6f4586dda38ac407680c97eaf7de8dda17fa4"}},
		{"name":"unknown-role","op":"hash","level":"MUST","role":"cook",
		 "input":{"label":"node-id","content":""},"output":{"hash":"00"}},
		{"name":"unknown-op","op":"dance","level":"MUST","role":"both",
		 "input":{},"output":{}},
		{"name":"unknown-key","op":"hash","level":"MUST","role":"both",
		 "input":{"label":"node-id","content":"","more":1},"output":{}},
		{"name":"card","op":"card","level":"MUST","role":"both",
		 "input":{"bytes":"CARD"},"output":{"name":"6e6f64652d30",
		 "node_id":"1925442d6024f1f81313bb60d3e9460f7a5a4869ff1bedded892d577a54a0ef2"}},
		{"name":"refused","op":"card","level":"MUST","role":"both",
		 "input":{"bytes":"CARD00"},"fail_layer":"decode","refused_by":"NO-16"},
		{"name":"other-layer","op":"card","level":"MUST","role":"both",
		 "input":{"bytes":"CARD00"},"fail_layer":"signature","refused_by":"ID-23"},
		{"name":"not-refused","op":"card","level":"MUST","role":"both",
		 "input":{"bytes":"CARD"},"fail_layer":"decode","refused_by":"NO-16"},
		{"name":"offer","op":"message","level":"MUST","role":"both",
		 "input":{"message":"RosterOffer","fields":{"epoch":"0000000000000007",
		 "digest":"0000000000000000000000000000000000000000000000000000000000000000"}},
		 "output":{"bytes":"00000000000000070000000000000000000000000000000000000000000000000000000000000000"}}`)
	s, err := loadSuite(directory)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if bad := s.run(&out, false); bad != 6 {
		t.Errorf("%d did not pass", bad)
	}
	want := []string{
		"ok right", "FAIL wrong", "SKIP unknown-role", "SKIP unknown-op", "SKIP unknown-key", "ok card", "ok refused",
		"FAIL other-layer", "FAIL not-refused", "ok offer",
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines", len(lines))
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("%s", line)
		}
	}
}

func TestAFileThatIsNotThatOfTheManifestIsNotRead(t *testing.T) {
	for _, name := range []string{"tiny.json", "fixtures.json"} {
		directory := write(t, `{"name":"a","op":"dance"}`)
		if _, err := loadSuite(directory); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(directory, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, append(data, ' '), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := loadSuite(directory); err == nil {
			t.Errorf("%s: read all the same", name)
		}
	}
}

func TestAManifestWithoutVectorsIsNoSuite(t *testing.T) {
	if _, err := loadSuite(write(t, "")); err == nil {
		t.Error("read all the same")
	}
}
